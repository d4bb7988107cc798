"""Is the rule-based quality of psplit_eval/quality.py worth its name? Measured on texts like these:

good ones of people and models, the same broken by seeded rules, and samples of rising temperature.

    for t in 0.7 1.0 1.3 1.5 2.0; do psplit-eval run --model smollm2-135m --modes normal \\
        --tasks psplit_story --limit 12 --samples 4 --set max_tokens=120 --set temperature=$t \\
        --out /tmp/quality/t$t; done
    python benchmarks/validity_quality.py extract /tmp/quality    # cache: /tmp/quality/cache
    python benchmarks/validity_quality.py evidence --cache /tmp/quality/cache    # 30 minutes
    python benchmarks/validity_quality.py study --cache /tmp/quality/cache
    python benchmarks/validity_quality.py table    # those of docs/quality.md
    python benchmarks/validity_quality.py examples --cache /tmp/quality/cache    # for the tests

The data of other people is read from $PSPLIT_TEST_DATA (default ../shared/data). The bounds of
the parts are read off one half of the prompts (rows 'bounds'); all else is of the other half, which
shares no prompt with it. Every row of benchmarks/results/validity_quality.csv has the number of
texts (or sets of samples) that its value is made of.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_evidence import gather, rows
from quality_texts import CORRUPTIONS, Case, cases, examples, extract
from scipy import stats
from sklearn.metrics import roc_auc_score

from psplit_eval.embedding import Encoder
from psplit_eval.quality import (
    Observed,
    Quality,
    echo,
    effective_diversity,
    is_english,
    known_share,
    passes,
    quality,
    repeated_share,
    surprise,
    topicality,
)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("PSPLIT_TEST_DATA", ROOT.parent / "shared" / "data"))
EXAMPLES = ROOT / "tests" / "data" / "quality_examples.jsonl"
RESULTS = ROOT / "benchmarks" / "results" / "validity_quality.csv"
PREFIXES = (8, 16, 32, 64, 128)
PARTS = ("fluency", "predictability", "words", "repetition", "echo", "on_topic")
GOOD = (
    "hanna_human",
    "hanna_llm",
    "macgyver_human",
    "macgyver_llm",
    "novelty_gemini",
    "novelty_human",
    "ttcw",
)


@dataclass(frozen=True)
class Judged:
    """A text, what is known of it, and what is made of that."""

    case: Case
    bits: Sequence[float]
    cosine: float
    quality: Quality

    @property
    def value(self) -> float:
        return self.quality.value


Row = tuple[str, str, str, float, int]
"""set, part or corruption, statistic, value, n"""


def judged(data: Path, cache: Path) -> list[Judged]:
    texts = cases(data, cache / "samples.jsonl")
    known = gather(texts, cache)
    return [judge(case, known[case.key]) for case in texts]


def judge(case: Case, seen: Mapping[str, Any]) -> Judged:
    """`seen`: a row of quality_evidence.py."""
    observed = Observed(
        case.text, case.prompt, seen["bits"], seen["cosine"], truncated=case.truncated
    )
    return Judged(case, seen["bits"], seen["cosine"], quality(observed))


# --- what is measured ---


def study(data: Path, cache: Path) -> list[Row]:
    texts = judged(data, cache)
    held_out = [text for text in texts if text.case.held_out]
    rows = [
        *bounds([text for text in texts if not text.case.held_out]),
        *corruptions(held_out),
        *good_texts(held_out),
        *temperatures(held_out, texts),
        *agreements(held_out),
        *lengths(held_out),
        *effective([text for text in texts if text.case.source == "smollm"]),
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(["set", "part", "statistic", "value", "n"])
        for *names, value, n in rows:
            write([*names, f"{value:.4f}", n])
    return rows


def read_results() -> dict[tuple[str, str, str], float]:
    with RESULTS.open(newline="") as file:
        rows = csv.DictReader(file)
        return {(r["set"], r["part"], r["statistic"]): float(r["value"]) for r in rows}


STATISTICS: Mapping[str, tuple[Callable[[Judged], float], float]] = {
    "fluency": (lambda t: surprise(t.bits, 0.75), 0.99),
    "predictability": (lambda t: surprise(t.bits, 0.25), 0.01),
    "words": (lambda t: known_share(t.case.text), 0.01),
    "repetition": (lambda t: repeated_share(t.case.text), 0.99),
    "echo": (lambda t: echo(t.case.text, t.case.prompt), 0.99),
    "on_topic": (lambda t: topicality(t.cosine, t.case.text), 0.01),
}
"""What each part's bounds are read off, and the quantile of good texts that is its floor."""


BROKEN: Mapping[str, Sequence[str]] = {
    "fluency": (
        "shuffle",
        "shuffle_half",
        "random_words",
        "random_words_half",
        "replaced_20",
        "replaced_40",
    ),
    "predictability": ("loop_sentence", "loop_word"),
    "words": ("random_characters",),
    "repetition": ("loop_sentence", "loop_word"),
    "echo": ("echo",),
    "on_topic": ("other_prompt",),
}
"""The corruptions that each part is for."""


def bounds(calibration: Sequence[Judged]) -> Iterator[Row]:
    """What half of the good texts keep, the last of a hundred, also of people's stories alone, and
    the first twentieth of the broken ones.
    """
    good = [t for t in calibration if t.case.source in GOOD]
    for part, (statistic, quantile) in STATISTICS.items():
        broken = [t for t in calibration if t.case.kind in BROKEN[part]]
        first = 0.05 if quantile > 0.5 else 0.95
        stories = [t for t in good if t.case.source == "hanna_human"]
        for name, some, share in (
            ("good_half", good, 0.5),
            ("good_last", good, quantile),
            ("stories_last", stories, quantile),
            ("broken_first", broken, first),
        ):
            values = [value for value in map(statistic, some) if not math.isnan(value)]
            yield "bounds", part, name, float(np.quantile(values, share)), len(values)


def corruptions(texts: Sequence[Judged]) -> Iterator[Row]:
    """Whole against broken: the same stories. AUC of 1/2: no difference."""
    kinds = _by(texts, lambda t: t.case.kind if t.case.source == "corruption" else None)
    whole = kinds["good"]
    for kind in CORRUPTIONS:
        broken = kinds[kind]
        for name in ("quality", *PARTS):
            yield "corruption", kind, f"auc_{name}", _auc(whole, broken, name), len(broken)
        yield "corruption", kind, "failing_share", _failing(broken), len(broken)


def good_texts(texts: Sequence[Judged]) -> Iterator[Row]:
    for source in (*GOOD, "all"):
        some = [t for t in texts if t.case.source in GOOD and source in (t.case.source, "all")]
        yield "good", source, "failing_share", _failing(some), len(some)
        yield "good", source, "quality_mean", float(np.mean([t.value for t in some])), len(some)
        yield "good", source, "not_english_share", _foreign(some), len(some)
    for part in PARTS:
        yield "good", part, "failing_share", *_part_failing(texts, part)


def _part_failing(texts: Sequence[Judged], part: str) -> tuple[float, int]:
    values = [t.quality.parts[part] for t in texts if t.case.source in GOOD]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean([not passes(value) for value in known])), len(known)


def temperatures(held_out: Sequence[Judged], texts: Sequence[Judged]) -> Iterator[Row]:
    """SmolLM2 on psplit's own prompts: all of them, since nothing was fitted on these texts."""
    smollm = [t for t in texts if t.case.source == "smollm"]
    for heat, some in sorted(_by(smollm, lambda t: t.case.value).items()):
        name = f"temperature_{heat}"
        yield "smollm", name, "quality_mean", float(np.mean([t.value for t in some])), len(some)
        yield "smollm", name, "passing_share", 1 - _failing(some), len(some)
    sets = _by(held_out, lambda t: t.case.source) | {"smollm": smollm}
    for source, some in sets.items():
        if some[0].case.kind == "temperature":
            for name in ("quality", *PARTS):
                yield source, name, "spearman_temperature", _spearman(some, name), len(some)
            raw = [float(np.mean(t.bits)) if t.bits else math.nan for t in some]
            heats = [t.case.value for t in some]
            rho = stats.spearmanr(raw, heats, nan_policy="omit").statistic
            yield source, "bits_per_token", "spearman_temperature", float(rho), len(some)


def agreements(texts: Sequence[Judged]) -> Iterator[Row]:
    """With a reward model's scores, and with a human verdict: efficient (1) or wrong (0)."""
    for source in ("novelty_human", "novelty_gemini"):
        some = [t for t in texts if t.case.source == source]
        for name in ("quality", *PARTS):
            yield source, name, "spearman_reward", _spearman(some, name), len(some)
    for source in ("macgyver_human", "macgyver_llm"):
        some = [t for t in texts if t.case.source == source]
        right, wrong = ([t for t in some if t.case.value == v] for v in (1.0, 0.0))
        yield source, "quality", "auc_verdict", _auc(right, wrong, "quality"), len(some)


def lengths(texts: Sequence[Judged]) -> Iterator[Row]:
    """Rank correlation with the number of tokens; people's stories cut shorter and shorter."""
    good = [t for t in texts if t.case.source in GOOD]
    tokens = [len(t.bits) for t in good]
    for name in ("quality", *PARTS):
        rho = stats.spearmanr(tokens, _values(good, name), nan_policy="omit").statistic
        yield "length", name, "spearman_tokens", float(rho), len(good)
    stories = [t.bits for t in good if t.case.source == "hanna_human"]
    longest = [bits for bits in stories if len(bits) >= PREFIXES[-1]]
    for count in PREFIXES:
        name, firsts = f"first_{count}_tokens", [bits[:count] for bits in longest]
        values = {
            "fluency_bits": [surprise(first, 0.75) for first in firsts],
            "predictability_bits": [surprise(first, 0.25) for first in firsts],
            "bits_per_token": [float(np.mean(first)) for first in firsts],
        }
        for statistic, found in values.items():
            yield "length", name, statistic, float(np.mean(found)), len(found)


def effective(texts: Sequence[Judged]) -> Iterator[Row]:
    """Mean pairwise distance of four samples a prompt, as it is and among those that pass."""
    encoder = Encoder()
    for heat, some in sorted(_by(texts, lambda t: t.case.value).items()):
        name, raw, kept = f"temperature_{heat}", [], []
        for _, group in groupby(sorted(some, key=lambda t: t.case.prompt), lambda t: t.case.prompt):
            members = list(group)
            vectors = encoder.encode([t.case.text for t in members]).astype(np.float64)
            distances = 1.0 - vectors @ vectors.T
            raw.append(effective_diversity(distances, [True] * len(members)))
            kept.append(effective_diversity(distances, [passes(t.value) for t in members]))
        yield "smollm", name, "semantic_distance", float(np.mean(raw)), len(raw)
        yield "smollm", name, "effective_diversity", float(np.mean(kept)), len(kept)


# --- what people read: tables in Markdown ---


def tables() -> Iterator[str]:
    found = read_results()
    yield "| part | half of good texts | last of 100 | of people's stories | first 5 % of broken |"
    yield "|---|---|---|---|---|"
    for part in PARTS:
        names = ("good_half", "good_last", "stories_last", "broken_first")
        yield _line(part, *(f"{found['bounds', part, name]:.2f}" for name in names))
    yield ""
    yield f"| broken by | AUC of quality | fail (%) | AUC of each part: {', '.join(PARTS)} |"
    yield "|---|---|---|---|"
    for kind in CORRUPTIONS:
        parts = " ".join(f"{found['corruption', kind, f'auc_{part}']:.2f}" for part in PARTS)
        auc = f"{found['corruption', kind, 'auc_quality']:.3f}"
        yield _line(kind, auc, _percent(found["corruption", kind, "failing_share"]), parts)
    yield ""
    yield "| good texts | fail (%) | mean quality |"
    yield "|---|---|---|"
    for source in (*GOOD, "all"):
        mean = f"{found['good', source, 'quality_mean']:.2f}"
        yield _line(source, _percent(found["good", source, "failing_share"]), mean)
    yield ""
    yield "| temperature | quality | pass (%) | mean pairwise distance | effective diversity |"
    yield "|---|---|---|---|---|"
    for heat in ("0.7", "1.0", "1.3", "1.5", "2.0"):
        row = {name: value for (_, part, name), value in found.items() if part.endswith(heat)}
        names = ("quality_mean", "semantic_distance", "effective_diversity")
        mean, plain, kept = (f"{row[name]:.2f}" for name in names)
        yield _line(heat, mean, _percent(row["passing_share"]), plain, kept)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def write_examples(cache: Path) -> int:
    """EXAMPLES: texts of psplit's own, and all that quality looks at; returns how many."""
    texts = examples(cache / "samples.jsonl")
    known = {row["key"]: row for row in rows(texts)}
    with EXAMPLES.open("w") as file:
        for case in texts:
            row = {name: getattr(case, name) for name in ("kind", "value", "prompt", "text")}
            seen = {name: known[case.key][name] for name in ("bits", "cosine")}
            row |= seen | {"truncated": case.truncated}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(texts)


# --- helpers ---


def _by(texts: Sequence[Judged], key: Callable[[Judged], Any]) -> dict[Any, list[Judged]]:
    found: dict[Any, list[Judged]] = defaultdict(list)
    for text in texts:
        if key(text) is not None:
            found[key(text)].append(text)
    return found


def _values(texts: Sequence[Judged], name: str) -> NDArray[np.float64]:
    return np.array([t.value if name == "quality" else t.quality.parts[name] for t in texts])


def _failing(texts: Sequence[Judged]) -> float:
    return float(np.mean([not passes(t.value) for t in texts]))


def _foreign(texts: Sequence[Judged]) -> float:
    return float(np.mean([not is_english(t.case.text) for t in texts]))


def _auc(better: Sequence[Judged], worse: Sequence[Judged], name: str) -> float:
    """NaN where the part is not known of one of the texts."""
    values = np.concatenate([_values(better, name), _values(worse, name)])
    labels = [1] * len(better) + [0] * len(worse)
    known = ~np.isnan(values)
    return float(roc_auc_score(np.array(labels)[known], values[known]))


def _spearman(texts: Sequence[Judged], name: str) -> float:
    """NaN where all values are equal."""
    values, targets = _values(texts, name), np.array([t.case.value for t in texts])
    known = ~np.isnan(values)
    if len(set(values[known])) < 2:
        return math.nan
    return float(stats.spearmanr(values[known], targets[known]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("extract").add_argument("runs", type=Path)
    steps.add_parser("table")
    for name in ("evidence", "study", "examples"):
        steps.add_parser(name).add_argument("--cache", type=Path, required=True)
    asked = parser.parse_args()
    if asked.step == "extract":
        cache = asked.runs / "cache"
        cache.mkdir(exist_ok=True)
        print(f"{extract(asked.runs, cache / 'samples.jsonl')} samples")
    elif asked.step == "evidence":
        print(f"{len(gather(cases(DATA, asked.cache / 'samples.jsonl'), asked.cache))} texts")
    elif asked.step == "table":
        print("\n".join(tables()))
    elif asked.step == "examples":
        print(f"{write_examples(asked.cache)} texts")
    else:
        for *names, value, n in study(DATA, asked.cache):
            print(*(f"{name:24s}" for name in names), f"{value:8.4f}", n)


if __name__ == "__main__":
    main()
