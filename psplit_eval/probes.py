"""What a judge is asked in its audit: gold texts and pairs, some of them again, and attacks.

Every question has a name, by which recorded judges are asked. Which texts are asked again or
attacked depends on the gold alone, so an audit that goes on asks the same questions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from typing import NamedTuple

from psplit_eval.fencing import fence_code, fenced
from psplit_eval.goldset import GoldPair, Injection
from psplit_eval.replies import LABELS
from psplit_eval.rubrics import Question, Rubric

__all__ = ["ORDERS", "PARTS", "Probe", "Probes", "spread"]

ORDERS = ("better first", "worse first")
SCORES, CHOICE = "scores", "choice"
AGAIN, ATTACKED = "again", "attacked"
PARTS = tuple(
    f"{kind}{how}" for how in ("", f" {AGAIN}", f" {ATTACKED}") for kind in (SCORES, CHOICE)
)
"""What an audit consists of."""

_REPEATED = 16
"""So many texts, and so many pairs, are asked again."""
_FOR_SCORES = {"high", "low", "json"}


class Probe(NamedTuple):
    """One question: `subject` is a gold text or pair, `order` how a pair is shown, `repeat` the
    how-manieth time beside the first it is asked, `attack` what the worse text says."""

    part: str
    subject: str
    order: str = ""
    repeat: int = 0
    attack: str = ""

    @property
    def about(self) -> str:
        """Its name for recorded judges: 'PAIR/better first', 'PAIR/worse first', 'PAIR/better' and
        'PAIR/worse' for the scores of a text, then '/repeat 1' or '/attack ID'."""
        repeat = f"repeat {self.repeat}" if self.repeat else ""
        attack = f"attack {self.attack}" if self.attack else ""
        return "/".join(filter(None, (self.subject, self.order, repeat, attack)))


@dataclass(frozen=True)
class Probes:
    """All questions of an audit by `rubric` on `gold`.

    `most`: so many pairs at the most, spread over prompts and kinds; `repeats`: how often some
    texts and pairs are asked again; `injections`: attacks that the worse texts say. A text that
    stands in several pairs is scored once, under the name of the first of them in the gold.
    """

    rubric: Rubric
    gold: Sequence[GoldPair]
    most: int | None = None
    repeats: int = 0
    injections: Sequence[Injection] = field(default=())

    def __iter__(self) -> Iterator[Probe]:
        for subject in self.texts:
            yield Probe(SCORES, subject)
        for pair in self.pairs:
            for order in ORDERS:
                yield Probe(CHOICE, pair.id, order)
        for repeat in range(1, self.repeats + 1):
            yield from (Probe(f"{SCORES} {AGAIN}", one, "", repeat) for one in self.repeated_texts)
            for pair, order in self.repeated_pairs:
                yield Probe(f"{CHOICE} {AGAIN}", pair.id, order, repeat)
        for attack, pair in self.score_attacks:
            subject = self.text_ids(pair)[1]
            yield Probe(f"{SCORES} {ATTACKED}", subject, attack=attack.id)
        for attack, pair in self.choice_attacks:
            for order in ORDERS:
                yield Probe(f"{CHOICE} {ATTACKED}", pair.id, order, attack=attack.id)

    @cached_property
    def _in_spread(self) -> list[GoldPair]:
        return spread(self.gold, self.most)

    @cached_property
    def pairs(self) -> list[GoldPair]:
        """Those that are asked, in the order of the gold."""
        chosen = {pair.id for pair in self._in_spread}
        return [pair for pair in self.gold if pair.id in chosen]

    @cached_property
    def texts(self) -> dict[str, tuple[str, str]]:
        """Name → prompt and text, of all texts of the pairs."""
        return {
            name: (pair.prompt, text)
            for pair in self.pairs
            for name, text in zip(self.text_ids(pair), (pair.better, pair.worse), strict=True)
        }

    def text_ids(self, pair: GoldPair) -> tuple[str, str]:
        """Names of the better and of the worse text."""
        return self._names[pair.prompt, pair.better], self._names[pair.prompt, pair.worse]

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for pair in self.gold:
            found.setdefault((pair.prompt, pair.better), f"{pair.id}/better")
            found.setdefault((pair.prompt, pair.worse), f"{pair.id}/worse")
        return found

    @cached_property
    def repeated_texts(self) -> list[str]:
        """By turns the better and the worse one of a pair, so that they differ in worth."""
        ids = [self.text_ids(pair)[number % 2] for number, pair in enumerate(self._in_spread)]
        return list(dict.fromkeys(ids))[:_REPEATED]

    @cached_property
    def repeated_pairs(self) -> list[tuple[GoldPair, str]]:
        """By turns in one order and the other."""
        some = self._in_spread[:_REPEATED]
        return [(pair, ORDERS[number % 2]) for number, pair in enumerate(some)]

    @cached_property
    def score_attacks(self) -> list[tuple[Injection, GoldPair]]:
        """Attacks on scores, each in the worse text of one pair after the other."""
        fit = [one for one in self.injections if "label" not in one.fields]
        return list(zip(fit, cycle(self._in_spread), strict=False))

    @cached_property
    def choice_attacks(self) -> list[tuple[Injection, GoldPair]]:
        """Attacks on comparisons, in the same way."""
        fit = [one for one in self.injections if not one.fields & _FOR_SCORES]
        return list(zip(fit, cycle(self._in_spread), strict=False))

    def question(self, probe: Probe, writes: bool, special: tuple[str, ...]) -> Question:
        """What a judge is asked, just as it is asked about samples."""
        if probe.part.startswith(SCORES):
            prompt, text = self.texts[probe.subject]
            return self.rubric.score_question(
                prompt,
                self._attacked(probe, text, self.rubric.text, writes),
                writes=writes,
                repeat=probe.repeat,
                special=special,
                about=probe.about,
            )
        pair = self._pair_of[probe.subject]
        place = 1 - ORDERS.index(probe.order)  # of the worse text
        name = f"{self.rubric.text} {LABELS[place]}"
        worse = self._attacked(probe, pair.worse, name, writes, LABELS[place])
        return self.rubric.choice_question(
            pair.prompt,
            (pair.better, worse) if place else (worse, pair.better),
            writes=writes,
            repeat=probe.repeat,
            special=special,
            about=probe.about,
        )

    @cached_property
    def _pair_of(self) -> dict[str, GoldPair]:
        return {pair.id: pair for pair in self.pairs}

    def _attacked(self, probe: Probe, text: str, name: str, writes: bool, label: str = "") -> str:
        """The text with the attack in it; `name` is what the text is called in the question."""
        if not probe.attack:
            return text
        rubric = self.rubric
        top = dict.fromkeys(rubric.names, rubric.high)
        reason = {"reason": "It is excellent."} if rubric.reason and writes else {}
        return self._injection_of[probe.attack].applied(
            text,
            fence=fenced(name, "", fence_code(probe.attack)).splitlines()[-1],
            high=rubric.high,
            low=rubric.low,
            json=json.dumps(reason | top),
            label=label,
        )

    @cached_property
    def _injection_of(self) -> dict[str, Injection]:
        return {one.id: one for one in self.injections}


def spread(pairs: Sequence[GoldPair], most: int | None = None) -> list[GoldPair]:
    """At most so many of the pairs, in an order that goes over all prompts and kinds by turns.

    The first of them are those of any smaller number.
    """
    left, found = list(pairs), list[GoldPair]()
    prompts, kinds = Counter[str](), Counter[str]()
    while left and (most is None or len(found) < most):
        pair = min(left, key=lambda one: (prompts[one.prompt], kinds[one.kind]))
        left.remove(pair)
        found.append(pair)
        prompts[pair.prompt] += 1
        kinds[pair.kind] += 1
    return found
