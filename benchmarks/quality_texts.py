"""The texts of validity_quality.py: good ones, seeded corruptions, rising temperature."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from psplit_eval.store import Store

__all__ = ["CORRUPTIONS", "Case", "cases", "examples", "extract"]

SEED = 20260411
BASES, BASE_WORDS, GOOD_WORDS = 36, 100, 120
TASK, STORY = "psplit_story", "Write a short story. "


@dataclass(frozen=True)
class Case:
    """One text and where it comes from.

    `kind`: what was done to it ('good' if nothing); `value`: the temperature it was drawn with, or
    what people or a reward model gave it; `held_out` depends on the prompt alone.
    """

    source: str
    kind: str
    prompt: str
    text: str
    truncated: bool = False
    value: float | None = None

    @property
    def held_out(self) -> bool:
        return _hashed(self.prompt) % 2 == 1

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([self.prompt, self.text]).encode()).hexdigest()[:24]


def cases(data: Path, samples: Path) -> list[Case]:
    """All texts, in a fixed order; `data` is PSPLIT_TEST_DATA, `samples` what `extract` wrote."""
    stories = list(_hanna(data))
    parts = (
        _smollm(samples),
        _corrupted(stories),
        stories,
        _people(data),
        _gemini(data),
        _macgyver(data),
        _ttcw(data),
        _dectest(data),
    )
    return [case for part in parts for case in part]


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _opening(text: str, words: int) -> str:
    """The first sentences, at most about so many words."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"'”’]?(?=\s|$)", text)]
    limit = [match.end() for match in re.finditer(r"\S+", text)][:words][-1:]
    fitting = [end for end in ends if limit and end <= limit[0]]
    return text[: fitting[-1]].strip() if fitting else text[: limit[0] if limit else 0].strip()


# --- good texts ---


def _hanna(data: Path) -> Iterator[Case]:
    for row in _rows(data / "hanna" / "stories.jsonl.gz"):
        prompt = STORY + row["prompt"]
        yield Case("hanna_human", "good", prompt, _opening(row["human_story"], GOOD_WORDS))
        systems = sorted(row["llm_stories"])
        system = systems[_hashed(prompt) % len(systems)]
        yield Case("hanna_llm", "good", prompt, _opening(row["llm_stories"][system], GOOD_WORDS))


def _people(data: Path) -> Iterator[Case]:
    """One answer is 0 by rule: that of a class which has been there before."""
    for row in _rows(data / "noveltybench" / "human_responses.jsonl"):
        yield from _scored(row, "novelty_human", 3)


def _gemini(data: Path) -> Iterator[Case]:
    for row in _rows(data / "noveltybench" / "gemini15pro_curated_generations.jsonl.gz"):
        yield from _scored(row, "novelty_gemini", 1)


def _scored(row: dict[str, Any], source: str, most: int) -> Iterator[Case]:
    seen: set[int] = set()
    for text, group, score in zip(
        row["generations"], row["partition"], row["generation_scores"], strict=True
    ):
        if group not in seen and len(seen) < most:
            seen.add(group)
            yield Case(source, "good", row["prompt"], _opening(text, GOOD_WORDS), value=score)


def _macgyver(data: Path) -> Iterator[Case]:
    """Verdict 1: efficient; 0: wrong, all of it. 80 of people, 80 of models, by the text's hash."""
    folder = data / "macgyver"
    problems = {row["id"]: row["problem"] for row in _rows(folder / "problems.jsonl.gz")}
    verdicts = {"correct_efficient": 1.0, "wrong_entire_wrong_solution": 0.0}
    found: dict[str, list[Case]] = {"macgyver_human": [], "macgyver_llm": []}
    for row in _rows(folder / "annotated_solutions.jsonl.gz"):
        source = "macgyver_human" if row["model"] == "Prolific" else "macgyver_llm"
        if row["annotation"] in verdicts:
            text = _opening(row["solution"], GOOD_WORDS)
            value = verdicts[row["annotation"]]
            found[source].append(Case(source, "good", problems[row["id"]], text, value=value))
    for members in found.values():
        yield from sorted(set(members), key=lambda case: _hashed(case.text))[:80]


def _ttcw(data: Path) -> Iterator[Case]:
    for row in _rows(data / "ttcw" / "stories.jsonl.gz"):
        if row["text_available"]:
            yield Case("ttcw", "good", STORY + row["plot"], _opening(row["content"], GOOD_WORDS))


# --- rising temperature ---


def _dectest(data: Path) -> Iterator[Case]:
    for row in _rows(data / "diversity_eval" / "dectest_200_human.jsonl.gz"):
        if _hashed(row["context"]) % 3 == 0:  # two of three are enough
            continue
        for text in row["responses"][:1]:
            text = text.removesuffix("!")  # an end mark of the authors' sampler
            source = f"dectest_{row['task']}"
            yield Case(source, "temperature", row["context"], text, value=row["label_value"])


def _smollm(samples: Path) -> Iterator[Case]:
    for row in _rows(samples):
        yield Case(
            "smollm",
            "temperature",
            STORY + row["premise"],
            row["text"],
            row["finish_reason"] == "length",
            row["temperature"],
        )


def extract(runs: Path, samples: Path) -> int:
    """Samples of the runs t0.7, t1.0, … under `runs`, one a line; returns how many."""
    rows = []
    for run in sorted(runs.glob("t*.*")):
        with Store(run / "samples.sqlite") as store:
            premises = {doc.doc_id: doc.doc["premise"] for doc in store.docs(TASK)}
            for sample in store.samples(TASK, ids=False):
                row = {
                    "temperature": float(run.name[1:]),
                    "premise": premises[sample.doc_id],
                    "text": sample.text,
                    "finish_reason": sample.finish_reason,
                }
                rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    samples.write_text("".join(rows))
    return len(rows)


# --- corruptions ---


def _corrupted(stories: Sequence[Case]) -> Iterator[Case]:
    """Of each of `BASES` prompts the human or the LLM's story, whole and in every broken form."""
    pairs = list(zip(stories[::2], stories[1::2], strict=True))
    bases = [pair[_hashed(pair[0].prompt) // 2 % 2] for pair in pairs[:BASES]]
    bases = [replace(base, text=_opening(base.text, BASE_WORDS)) for base in bases]
    for i, base in enumerate(bases):
        base = replace(base, source="corruption")
        yield base
        others = [
            case for case in bases if case.held_out == base.held_out and case.prompt != base.prompt
        ]
        other = others[i % len(others)].text
        for kind in CORRUPTIONS:
            yield _broken(base, kind, other)


def _broken(base: Case, kind: str, other: str) -> Case:
    """`other`: a text on another prompt."""
    rng = random.Random(f"{SEED}/{kind}/{base.prompt}")
    corrupt = CORRUPTIONS[kind]
    text = corrupt(base, rng) if corrupt else other
    return replace(base, kind=kind, text=text, truncated=kind == "cut")


@lru_cache(maxsize=1)
def _vocabulary() -> list[str]:
    from wordfreq import top_n_list

    return [word for word in top_n_list("en", 20_000) if word.isalpha()]


def _shuffled(words: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(words, len(words))


def _shuffle(base: Case, rng: random.Random) -> str:
    return " ".join(_shuffled(base.text.split(), rng))


def _shuffle_half(base: Case, rng: random.Random) -> str:
    words = base.text.split()
    half = len(words) // 2
    return " ".join([*words[:half], *_shuffled(words[half:], rng)])


def _random_words(base: Case, rng: random.Random) -> str:
    return " ".join(rng.choices(_vocabulary(), k=len(base.text.split())))


def _random_words_half(base: Case, rng: random.Random) -> str:
    words = base.text.split()
    half = len(words) // 2
    return " ".join([*words[:half], *rng.choices(_vocabulary(), k=len(words) - half)])


def _random_characters(base: Case, rng: random.Random) -> str:
    signs = "abcdefghijklmnopqrstuvwxyz0123456789 .,;:#@%&*()[]  "
    return "".join(rng.choices(signs, k=len(base.text) // 2))


def _loop_sentence(base: Case, rng: random.Random) -> str:
    words = base.text.split()
    third = len(words) // 3
    looped = words[third : third + rng.randint(8, 16)]
    return " ".join([*words[:third], *(looped * len(words))[: len(words) - third]])


def _loop_word(base: Case, rng: random.Random) -> str:
    words = base.text.split()
    half = len(words) // 2
    return " ".join([*words[:half], *[words[half]] * (len(words) - half)])


def _cut(base: Case, rng: random.Random) -> str:
    return base.text[: len(base.text) // 2]


def _echo(base: Case, rng: random.Random) -> str:
    return base.prompt


def _replaced(share: float) -> Callable[[Case, random.Random], str]:
    def replace_words(base: Case, rng: random.Random) -> str:
        words = base.text.split()
        for place in rng.sample(range(len(words)), round(share * len(words))):
            words[place] = rng.choice(_vocabulary())
        return " ".join(words)

    return replace_words


CORRUPTIONS: dict[str, Callable[[Case, random.Random], str] | None] = {
    "shuffle": _shuffle,
    "shuffle_half": _shuffle_half,
    "random_words": _random_words,
    "random_words_half": _random_words_half,
    "random_characters": _random_characters,
    "loop_sentence": _loop_sentence,
    "loop_word": _loop_word,
    "other_prompt": None,  # not made of the text
    "echo": _echo,
    "cut": _cut,
    "replaced_10": _replaced(0.1),
    "replaced_20": _replaced(0.2),
    "replaced_40": _replaced(0.4),
}


# --- examples written for psplit, for its tests ---

_BAKER = STORY + "A night baker teaches her grandson the one recipe she swore never to share."
_STORY = (
    "The ovens were already hot when Tomas came down the stairs in his socks. His grandmother did "
    "not turn around. She pushed the bowl towards him and told him to put both hands in. The dough "
    "was warm, like something asleep. For forty years people had asked her what was in it, and for "
    "forty years she had smiled and wrapped their loaves in paper. Now she counted the salt aloud, "
    "slowly, so that he would remember. When the first tray came out they ate the heel of a loaf "
    "together, standing, and neither of them said anything until the street lamps went out."
)
_KEY = (
    "A key has fallen through a grating, two metres down. You have a magnet, a ball of string, "
    "chewing gum and a broom handle. How do you get it back?"
)
_STEPS = (
    "1. Tie the magnet to the end of the string.\n2. Let it down through the grating until it "
    "touches the key.\n3. If the key is brass and the magnet does not hold it, chew the gum "
    "until it is soft and press it on the underside of the magnet.\n4. Lower it again, wait a "
    "moment, and pull it up slowly.\n5. Use the broom handle to keep the string away from the bars."
)
EXAMPLES: tuple[tuple[str, str], ...] = (
    (_BAKER, _STORY),
    (_KEY, _STEPS),
    ("What is the capital of France?", "Paris"),
    ("Name an animal that lives in the sea.", "A cuttlefish."),
    ("What is an unusual use for a brick?", "Grind it to powder and paint with it."),
    (
        "Write ten nouns that are as different from each other as possible.",
        "violin, glacier, tax, mosquito, forgiveness, trousers, volcano, semicolon, cabbage, orbit",
    ),
    (
        "Write a poem of four lines about rain.",
        "Rain on the roof and rain on the road,\nrain on the back of the slow green toad;\nrain on "
        "the window, rain on the wall,\nand I in my bed, hearing all of it fall.",
    ),
    ("Which sign stands for a good mood?", "🙂"),
    ("What is six times seven?", "42"),
    (
        "Escribe el comienzo de un cuento sobre una panadera.",
        "La panadera encendió el horno antes de que saliera el sol. Su nieto la miraba desde la "
        "puerta, con los ojos llenos de sueño, y ella le dijo que se lavara las manos.",
    ),
    (
        "写一个关于面包师的故事的开头。",
        "天还没亮，面包师就点燃了炉子。她的孙子站在门口，揉着眼睛看着她。她让他先去洗手，然后把面团放到他面前。",
    ),
)


def examples(samples: Path) -> list[Case]:
    """Good texts, two of them in every broken form, and 16 samples of SmolLM2."""
    found = [Case("example", "good", prompt, text) for prompt, text in EXAMPLES]
    for base, other in ((found[0], _STEPS), (found[1], _STORY)):
        for kind in CORRUPTIONS:
            found.append(_broken(base, kind, other))
    return [*found, *list(_smollm(samples))[::15]]
