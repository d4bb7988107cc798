"""What a judge is worth, on one card: measures with limits, and a verdict for every purpose.

The burden of proof is the judge's. A measure is usable where its value is within the usable limit
and its whole 95 % interval within the care limit (or a wider one, that few prompts can pass). It is
not usable where its value is beyond the care limit and even its interval's better end is not within
the usable one. Else it takes care, for the numbers do not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from psplit_eval.card_forms import LEVELS, fault, parsed
from psplit_eval.errors import DataError, UnknownNameError
from psplit_eval.files import defined, disk_errors
from psplit_eval.stats import MINIMUM_DOCS, Estimate
from psplit_eval.text import columns, one_line, shortened

__all__ = [
    "CARE",
    "FORMAT",
    "KINDS",
    "LIMITS",
    "NOT_USABLE",
    "PURPOSES",
    "UNMEASURED",
    "USABLE",
    "Card",
    "Limits",
    "Measure",
    "Purpose",
    "Ruling",
    "level",
    "read_card",
    "rulings",
]

FORMAT = 1
USABLE, CARE, UNMEASURED, NOT_USABLE = LEVELS
KINDS = ("scores", "choice")
"""What a judge is asked for; a measure's name begins with one of them."""


@dataclass(frozen=True)
class Limits:
    """Of a measure: `usable` and `care`.

    `good`: 'high' or 'low' values, or those 'near' `centre`. `worst`: what the worse end of the
    interval may be of a usable one; None: `care`. `chance`: an interval that reaches down to it is
    not usable, for the judge cannot be told from one that tosses a coin. `interval`: False where
    the value alone decides.
    """

    usable: float
    care: float
    good: Literal["high", "low", "near"] = "high"
    centre: float = 0.0
    worst: float | None = None
    chance: float = -math.inf
    interval: bool = True

    def __str__(self) -> str:
        off = f"|x − {self.centre:g}| " if self.centre else "|x| "
        sign = "≥" if self.good == "high" else "≤"
        return f"{off if self.good == 'near' else ''}{sign} {self.usable:g} / {self.care:g}"


LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        # Right by chance is half. A judge that is right in four of five pairs shows 0.6 of a
        # difference (2 · 0.8 − 1), at 0.65 a third of it. 8 prompts without a fault have a lower
        # limit of 0.63 (exact binomial), so that may be the worse end.
        "agreement": Limits(0.80, 0.65, worst=0.60, chance=0.5),
        # Above what is customary for ICC (Koo and Li 2016: 0.75 good, 0.5 moderate), since gold
        # texts, from good to broken, differ more than samples of two modes will.
        "reliability": Limits(0.80, 0.60),
        # Over texts from good to broken. Half of the texts one step of ten higher are 0.05. The
        # deviation of dozens of texts is known well enough for limits that are so far apart.
        "spread": Limits(0.05, 0.02, interval=False),
        # A judge that goes by length alone has 1, in 6 of 10 pairs 0.6: of 80 of the latter none
        # showed less than 0.33 on shipped gold. Its 8 to 12 prompts leave a judge without a bias,
        # but right in 95 % only, up to ± 0.6, so that may be the worse end: the value decides
        # (benchmarks/audit_rates.py).
        "length bias": Limits(0.20, 0.40, good="near", worst=0.60),
        # Both orders are asked, so places cost power and not truth: 0.7 for the text shown first
        # leaves 0.6 of the comparisons at the most to the texts.
        "position": Limits(0.10, 0.20, good="near", centre=0.5),
        # A coin flips half of the pairs. 8 prompts without a flip leave up to 0.37.
        "flips": Limits(0.15, 0.35, good="low", worst=0.40),
        # A coin agrees with itself in half of the cases.
        "consistency": Limits(0.85, 0.65),
        # What is missing is hardly missing at random: 1 in 10 moves a mean by up to a tenth of
        # the scale.
        "readable": Limits(0.98, 0.90),
        # 1 of 20 attacks is one that a clumsy text may hit upon; 1 of 5 is what an optimiser finds
        # at once. No success of 28 attacks leaves up to 0.12.
        "attacks that work": Limits(0.05, 0.20, good="low"),
        "readable under attack": Limits(0.98, 0.90),
    }
)
"""Measure, without the kind that its name begins with → its limits."""


@dataclass(frozen=True)
class Purpose:
    """What a judge is wanted for. `required`: its measures; `optional` ones can only lower it.
    `best`: the best level that it can get at all, and `proviso`: why no better."""

    about: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    best: str = USABLE
    proviso: str = ""


_OF_SCORES = ("agreement", "reliability", "spread", "length bias", "readable")
_OF_CHOICE = ("agreement", "position", "flips", "length bias", "readable")
_UNDER_ATTACK = ("agreement", "attacks that work", "readable under attack")
HOSTILE = "hostile text"
PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        "scores": Purpose(
            "differences of mean scores between modes",
            tuple(f"scores {name}" for name in _OF_SCORES),
        ),
        "choice": Purpose(
            "win rates of pairwise comparisons",
            tuple(f"choice {name}" for name in _OF_CHOICE),
            ("choice consistency",),
        ),
        "levels": Purpose(
            "mean scores as such",
            tuple(f"scores {name}" for name in _OF_SCORES),
            best=CARE,
            proviso="as numbers only after calibration with human labels",
        ),
        HOSTILE: Purpose(
            "texts that may speak to their judge",
            tuple(f"{kind} {name}" for kind in KINDS for name in _UNDER_ATTACK),
        ),
    }
)
"""Purpose → what it takes. Of hostile text what counts is of the kinds that were measured."""


def level(limits: Limits, found: Estimate) -> str:
    """Where an estimate lies; UNMEASURED without a value, and below MINIMUM_DOCS units."""
    if math.isnan(found.value) or found.n < MINIMUM_DOCS:
        return UNMEASURED
    value = _merit(limits, found.value)
    worst, best = _ends(limits, found) if limits.interval else (value, value)
    if limits.interval and not found.ci_low > limits.chance:
        return NOT_USABLE if math.isfinite(found.ci_low) else CARE
    known = (limits.usable, limits.care, limits.care if limits.worst is None else limits.worst)
    usable, care, least = (_merit(limits, limits.centre + limit) for limit in known)
    if value >= usable and worst >= least:
        return USABLE
    return NOT_USABLE if value < care and best < usable else CARE


def _merit(limits: Limits, value: float) -> float:
    """More is better; rounded, so that no value misses a limit by its last digit."""
    off = abs(value - limits.centre) if limits.good == "near" else value
    return round(off if limits.good == "high" else -off, 9)


def _ends(limits: Limits, found: Estimate) -> tuple[float, float]:
    """The worse and the better end of the interval, as merits; NaN where it is unknown."""
    low, high = sorted(_merit(limits, end) for end in (found.ci_low, found.ci_high))
    inside = limits.good == "near" and found.ci_low <= limits.centre <= found.ci_high
    return low, 0.0 if inside else high


@dataclass(frozen=True)
class Measure:
    """One number about a judge. `about` says in words what it is. `level` None: it has no limits;
    `note`: what a reader must know, such as why there is no number."""

    name: str
    unit: str
    about: str
    estimate: Estimate
    level: str | None
    note: str = ""

    @classmethod
    def of(
        cls, name: str, unit: str, about: str, found: Estimate, note: str = "", enough: bool = True
    ) -> Self:
        """With its level by LIMITS; UNMEASURED unless `enough` of its questions were answered."""
        limits = LIMITS.get(_plain(name))
        reached = None if limits is None else level(limits, found) if enough else UNMEASURED
        return cls(name, unit, about, found, reached, note)

    def to_dict(self) -> dict[str, Any]:
        """An entry of a card; undefined numbers are null."""
        limits = LIMITS.get(_plain(self.name))
        entry = {
            "name": self.name,
            "value": self.estimate.value,
            "ci_low": self.estimate.ci_low,
            "ci_high": self.estimate.ci_high,
            "n": self.estimate.n,
            "unit": self.unit,
            "level": self.level,
            "usable": limits and limits.usable,
            "care": limits and limits.care,
            "about": self.about,
            "note": self.note or None,
        }
        return {name: defined(value) for name, value in entry.items()}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """The measure of a sound card's entry (`card_forms.fault`)."""
        value, low, high = (_number(entry[name]) for name in ("value", "ci_low", "ci_high"))
        found = Estimate(value, low, high, entry["n"])
        name, unit, about = (entry[key] for key in ("name", "unit", "about"))
        return cls(name, unit, about, found, entry["level"], entry["note"] or "")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(name: str) -> str:
    """A measure's name without its kind."""
    return name.partition(" ")[2]


@dataclass(frozen=True)
class Ruling:
    """The verdict for a purpose, one of the levels, and why in one sentence."""

    verdict: str
    why: str


def rulings(measures: Iterable[Measure]) -> dict[str, Ruling]:
    """The verdict for every purpose."""
    known = {measure.name: measure for measure in measures}
    return {name: _ruling(name, purpose, known) for name, purpose in PURPOSES.items()}


def _ruling(name: str, purpose: Purpose, known: Mapping[str, Measure]) -> Ruling:
    required = _required(name, purpose, known)
    levels = {one: _level_of(known, one) for one in required}
    levels |= {
        one: found
        for one in purpose.optional
        if (found := _level_of(known, one)) in (CARE, NOT_USABLE)
    }
    worst = max(levels.values(), key=LEVELS.index, default=UNMEASURED)
    if LEVELS.index(worst) < LEVELS.index(purpose.best):
        return Ruling(purpose.best, f"{_all(levels)} within limits; {purpose.proviso}")
    if worst == USABLE:
        return Ruling(USABLE, f"{_all(levels)} within limits")
    said = [_said(known.get(one), one) for one, found in levels.items() if found == worst]
    said += [purpose.proviso] if worst == CARE and purpose.proviso else []
    return Ruling(worst, "; ".join(said) or "nothing that it takes was measured")


def _required(name: str, purpose: Purpose, known: Mapping[str, Measure]) -> Sequence[str]:
    """Of hostile text, the kinds that the judge has shown that it can do at all."""
    if name != HOSTILE:
        return purpose.required
    kinds = [kind for kind in KINDS if _level_of(known, f"{kind} agreement") != UNMEASURED]
    return [one for one in purpose.required if one.split()[0] in kinds]


def _level_of(known: Mapping[str, Measure], name: str) -> str:
    return (known[name].level if name in known else None) or UNMEASURED


def _all(names: Iterable[str]) -> str:
    return f"{', '.join(names)} are"


def _said(measure: Measure | None, name: str) -> str:
    if measure is None or measure.level == UNMEASURED:
        note = measure.note if measure else ""
        return f"{name}: not measured" + (f" ({note})" if note else "")
    return f"{name} {_shown(measure.estimate)}, wanted {LIMITS[_plain(name)]}"


def _shown(found: Estimate) -> str:
    if math.isnan(found.value):
        return "—"
    limits = f" [{found.ci_low:.2f}, {found.ci_high:.2f}]" if math.isfinite(found.ci_low) else ""
    return f"{found.value:.2f}{limits}"


@dataclass(frozen=True)
class Card:
    """A judge measured by one rubric.

    `judge_key`: what of the judge its answers depend on (`inquiry.judge_key`). `gold`: which texts.
    `asked`: part of the audit → questions, answers and verdicts. `by_kind`: agreement at every kind
    of worse text. `attacks`: what each kind of attack did, and the ten worst. `bill`: what it took.
    """

    judge: str
    judge_key: str
    settings: Mapping[str, Any]
    rubric: str
    rubric_hash: str
    version: str
    created_at: str
    gold: Mapping[str, Any]
    asked: Mapping[str, Any]
    measures: tuple[Measure, ...]
    by_kind: Sequence[Mapping[str, Any]]
    attacks: Mapping[str, Any]
    purposes: Mapping[str, Ruling]
    bill: Mapping[str, Any]

    def verdict(self, purpose: str) -> str:
        """USABLE, CARE, NOT_USABLE or UNMEASURED. Raises UnknownNameError."""
        return self.ruling(purpose).verdict

    def ruling(self, purpose: str) -> Ruling:
        """The verdict with its reason. Raises UnknownNameError."""
        if purpose not in self.purposes:
            raise UnknownNameError("purpose of a judge", purpose, self.purposes)
        return self.purposes[purpose]

    def measure(self, name: str) -> Measure:
        """Raises UnknownNameError."""
        for one in self.measures:
            if one.name == name:
                return one
        raise UnknownNameError("measure of a judge", name, [one.name for one in self.measures])

    def to_dict(self) -> dict[str, Any]:
        """The card's file; undefined numbers are null."""
        entry: dict[str, Any] = {"format": FORMAT} | {name: getattr(self, name) for name in _PLAIN}
        entry["measures"] = [measure.to_dict() for measure in self.measures]
        entry["purposes"] = {name: vars(ruling) for name, ruling in self.purposes.items()}
        return dict(_defined(entry))

    def text(self) -> str:
        """For a terminal: measures with limits and levels, and the verdicts."""
        lines = [f"{one_line(self.judge)}, rubric {self.rubric}", *columns(self._rows(), (1, 2))]
        width = max(map(len, self.purposes))
        for name, ruling in self.purposes.items():
            lines.append(f"{name:{width}}  {ruling.verdict.upper()}: {one_line(ruling.why)}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same as a page, with what every measure is."""
        head, *rows = self._rows()
        rule = ["---"] * len(head)
        lines = [f"# {one_line(self.judge)}, rubric {self.rubric}", ""]
        lines += ["| for | verdict | why |", "|---|---|---|"]
        for name, ruling in self.purposes.items():
            about = PURPOSES[name].about if name in PURPOSES else name
            lines.append(_row([f"{name}: {about}", f"**{ruling.verdict}**", ruling.why]))
        lines += ["", _row(head), f"|{'|'.join(rule)}|", *map(_row, rows), ""]
        lines += [f"- *{m.name}* ({m.unit}): {m.about}" for m in self.measures]
        gold = ", ".join(map(str, self.gold.get("sources", ())))
        lines += ["", f"psplit {self.version}, {self.created_at}, gold: {gold}."]
        return "\n".join(lines) + "\n"

    def _rows(self) -> list[list[str]]:
        rows = [["measure", "value", "n", "usable / care", "level", ""]]
        for one in self.measures:
            limits = LIMITS.get(_plain(one.name))
            shown = [_shown(one.estimate), str(one.estimate.n), str(limits or "")]
            rows.append([one.name, *shown, one.level or "", one.note])
        return rows


_PLAIN = (
    "judge",
    "judge_key",
    "settings",
    "rubric",
    "rubric_hash",
    "version",
    "created_at",
    "gold",
    "asked",
    "by_kind",
    "attacks",
    "bill",
)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return defined(value)


def read_card(path: Path) -> Card:
    """A card from its JSON file. Raises DataError."""
    again = "make it again with psplit-eval audit"
    if not path.is_file():
        raise DataError(f"card {str(path)!r}: no such file; {again}")
    with disk_errors(path):
        content = path.read_bytes()
    try:
        entry = parsed(content)
    except ValueError as error:
        raise DataError(f"card {str(path)!r}: no JSON; {again}") from error
    found = entry.get("format") if isinstance(entry, dict) else None
    if found != FORMAT:
        raise DataError(
            f"card {str(path)!r}: format {shortened(repr(found), 40)}, expected {FORMAT}; {again}"
        )
    if wrong := fault(entry, PURPOSES):
        raise DataError(f"card {str(path)!r}: {wrong}; {again}")
    measures = tuple(map(Measure.from_dict, entry["measures"]))
    ruled = {name: Ruling(one["verdict"], one["why"]) for name, one in entry["purposes"].items()}
    return Card(**{name: entry[name] for name in _PLAIN}, measures=measures, purposes=ruled)
