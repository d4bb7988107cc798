"""Three questions about a mode beside the reference mode, each answered yes, no or inconclusive.

Are these two policies? Was accuracy kept? Is the mode more creative? Every answer states its
evidence and its margin, and an answer that the data do not give is not given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psplit_eval.arms import Arm
from psplit_eval.comparison import ALPHA, AVERAGE, Comparison, Design, compare_pairs
from psplit_eval.divergence import Pair, mean_over_tasks
from psplit_eval.files import defined
from psplit_eval.judged import Said
from psplit_eval.margins import Claim, Verdict, decide
from psplit_eval.stats import MINIMUM_DOCS, Difference, paired_mean_difference
from psplit_eval.store import CrossSums

__all__ = [
    "LEAST_PLACEBOS",
    "Answer",
    "Excess",
    "Margins",
    "Split",
    "accuracy_kept",
    "more_creative",
    "not_split",
    "split",
]

OfPolicies = Mapping[str, Mapping[int, CrossSums]]
"""Policy → doc → sums, of the reference's samples on one task."""

LEAST_PLACEBOS = 3
"""With fewer nothing is known of how neutral prompts differ among themselves."""
_DIRECTIONS = {"high": 1, "low": -1}
"""By a mode's role: how its entropy is meant to differ from the reference's."""


@dataclass(frozen=True)
class Margins:
    """How much is needed for a yes; all above 0.

    `kl`, `entropy`: bits a token beyond every placebo. Prompting alone gave Qwen3 a KL of about
    0.01, training 0.22 (arXiv 2604.11510, base of the logarithm not stated). `accuracy`: the
    fraction that may be lost; `quality`: the same of the quality of creative samples.
    """

    kl: float = 0.1
    entropy: float = 0.05
    accuracy: float = 0.02
    quality: float = 0.05


@dataclass(frozen=True)
class Answer:
    """A question about mode b beside a (or beside another run's), and what is known."""

    question: str
    mode_a: str
    mode_b: str
    verdict: Verdict
    evidence: str

    @property
    def asked(self) -> str:
        """The question in words."""
        question = f"{self.question[:1].upper()}{self.question[1:]}"
        return f"{question} ({self.mode_b} beside {self.mode_a})"

    def to_dict(self) -> dict[str, Any]:
        """An entry of divergence.json."""
        return {**vars(self), "verdict": self.verdict.value}


@dataclass(frozen=True)
class Excess:
    """By how much a mode exceeds one placebo, both against the reference at the same contexts.

    `placebo` may be the reference itself, whose own gap is 0. `difference` in bits a token, mean
    over tasks; `direction`: 1 if the mode is meant to have more, −1 less. `p` is one-sided, of the
    hypothesis that it is the margin or less; `p_against` that it is more.
    """

    measure: str
    placebo: str
    difference: Difference
    margin: float
    direction: int
    p: float
    p_against: float

    def to_dict(self) -> dict[str, Any]:
        """An entry of divergence.json; undefined numbers are null."""
        low, high = self.difference.spread.limits()
        entry = {
            "measure": self.measure,
            "placebo": self.placebo,
            "excess": self.difference.difference,
            "ci_low": low,
            "ci_high": high,
            "n_docs": self.difference.n,
            "margin": self.margin,
            "p": self.p,
            "p_against": self.p_against,
        }
        return {name: defined(value) for name, value in entry.items()}


@dataclass(frozen=True)
class Split:
    """Whether a mode is a policy of its own: the answer, and what it rests on.

    `kl` and `entropy`: KL(reference‖mode) and the mode's entropy less the reference's, at the
    reference's contexts, mean over `tasks`.
    """

    answer: Answer
    kl: Difference
    entropy: Difference
    excesses: Sequence[Excess]
    tasks: Sequence[str]


def split(
    reference: str,
    mode: str,
    role: str,
    by_task: Mapping[str, OfPolicies],
    placebos: Sequence[str],
    margins: Margins,
    alpha: float = ALPHA,
    *,
    drawn: str = "",
    exact: bool = True,
) -> Split:
    """Decide whether KL and entropy gap exceed every placebo's by more than a margin.

    'Yes' where each of them does, each tested one-sided at α: as all have to hold, α is the chance
    of a false yes (intersection–union test, Berger 1982). 'No' where one of them does not, tested
    at α over their number (Bonferroni). At the contexts of the reference's samples, paired by doc;
    plain mean over tasks with MINIMUM_DOCS docs or more. A mode of role high is meant to have more
    entropy than the reference, one of role low less. Any other goes its own way: the sign of its
    gap, which costs both p a factor of 2. The gap itself has to exceed the margin, too: the
    reference is a placebo whose gap is 0. No yes with fewer than LEAST_PLACEBOS, nor anything but
    inconclusive where numbers are not `exact`: differences of bounds bound nothing. `drawn`: how
    contexts were drawn, where not at temperature 1 without truncation.
    """
    tasks = [name for name, sums in by_task.items() if _enough(sums, reference, [mode, *placebos])]
    pairs = [Pair.of(by_task[name][reference], by_task[name][mode]) for name in tasks]
    if not tasks:
        why = (
            f"no task has {MINIMUM_DOCS} docs or more that are scored under every policy; "
            "psplit-eval diverge RUN scores them"
        )
        nothing = Pair.of({}, {}).entropy()
        answer = Answer("split", reference, mode, Verdict.INCONCLUSIVE, why)
        return Split(answer, nothing, nothing, [], [])
    kl = mean_over_tasks([pair.divergence() for pair in pairs])
    entropy = mean_over_tasks([pair.entropy() for pair in pairs])
    meant = _DIRECTIONS.get(role, 0)
    direction = meant or (1 if entropy.difference >= 0 else -1)
    ways = 1 if meant else 2
    excesses = [
        excess
        for placebo in placebos
        for excess in _excesses(placebo, mode, direction, ways, by_task, tasks, margins)
    ]
    if placebos:
        gap = _excess("entropy", reference, entropy, margins.entropy, direction, ways)
        excesses.append(gap)
    evidence = _split_evidence(reference, kl, entropy, excesses, tasks)
    verdict = _of_excesses(excesses, alpha)
    if verdict is Verdict.YES and len(placebos) < LEAST_PLACEBOS:
        verdict = Verdict.INCONCLUSIVE
    if not exact:
        verdict = Verdict.INCONCLUSIVE
        evidence += "; bounds from the most probable tokens, which decide nothing"
    evidence += f"; contexts drawn at {drawn}" if drawn else ""
    answer = Answer("split", reference, mode, verdict, evidence)
    return Split(answer, kl, entropy, excesses, tasks)


def not_split(reference: str, mode: str) -> Split:
    """Two modes of one prompt are one policy, whatever was scored."""
    nothing = Pair.of({}, {}).entropy()
    why = "both modes have the same system prompt"
    answer = Answer("split", reference, mode, Verdict.NO, why)
    return Split(answer, nothing, nothing, [], [])


def _enough(sums: OfPolicies, reference: str, names: Iterable[str]) -> bool:
    own = sums.get(reference, {})
    docs = [set(Pair.of(own, sums.get(name, {})).docs) for name in names]
    return len(set.intersection(*docs)) >= MINIMUM_DOCS


def _excesses(
    placebo: str,
    mode: str,
    direction: int,
    ways: int,
    by_task: Mapping[str, OfPolicies],
    tasks: Sequence[str],
    margins: Margins,
) -> Iterator[Excess]:
    pairs = [Pair.of(by_task[task][placebo], by_task[task][mode]) for task in tasks]
    kl = mean_over_tasks([pair.divergence() for pair in pairs])
    yield _excess("kl", placebo, kl, margins.kl, 1)
    entropy = mean_over_tasks([pair.entropy() for pair in pairs])
    yield _excess("entropy", placebo, entropy, margins.entropy, direction, ways)


def _excess(
    measure: str, placebo: str, found: Difference, margin: float, direction: int, ways: int = 1
) -> Excess:
    """`ways`: how many directions there were to choose from."""
    decision = decide(found, Claim.SUPERIOR, margin, direction > 0)
    p, against = (
        min(1.0, ways * p) if p == p else math.nan for p in (decision.p, decision.p_against)
    )
    return Excess(measure, placebo, found, margin, direction, p, against)


def _of_excesses(excesses: Sequence[Excess], alpha: float) -> Verdict:
    if excesses and all(excess.p < alpha for excess in excesses):
        return Verdict.YES
    if any(excess.p_against * len(excesses) < alpha for excess in excesses):
        return Verdict.NO
    return Verdict.INCONCLUSIVE


def _split_evidence(
    reference: str,
    kl: Difference,
    entropy: Difference,
    excesses: Sequence[Excess],
    tasks: Sequence[str],
) -> str:
    where = f"bits a token at what {reference} says, {kl.n} docs of {', '.join(tasks)}"
    if not excesses:
        return (
            f"KL {_interval(kl)}, entropy {_interval(entropy, sign=True)}; no placebo says what "
            f"any other prompt would do; {where}"
        )
    number = sum(excess.measure == "kl" for excess in excesses)
    beyond = [_beyond(_least(excesses, measure), number) for measure in ("kl", "entropy")]
    return (
        f"KL {_interval(kl)}, {beyond[0]}; entropy {_interval(entropy, sign=True)}, {beyond[1]}; "
        f"{where}"
    )


def _beyond(excess: Excess, number: int) -> str:
    least = "more than " if excess.direction > 0 else "less than -"
    found = _interval(excess.difference, sign=True)
    of = f"the nearest of {number}" if number > 1 else "the only placebo"
    return f"{found} beyond {excess.placebo}, {of} (needs {least}{excess.margin:g})"


def _least(excesses: Sequence[Excess], measure: str) -> Excess:
    """The placebo that the mode exceeds least; the reference where it is that."""
    ours = (excess for excess in excesses if excess.measure == measure)
    return min(ours, key=lambda e: e.difference.difference * e.direction)


def _interval(found: Difference, sign: bool = False) -> str:
    if math.isnan(found.difference):
        return "undefined"
    plus = "+" if sign else ""
    low, high = found.spread.limits()
    limits = f" [{low:{plus}.3f}, {high:{plus}.3f}]" if math.isfinite(low + high) else ""
    return f"{found.difference:{plus}.3f}{limits}"


def accuracy_kept(pairs: Sequence[tuple[Arm, Arm]], margin: float, design: Design) -> Answer | None:
    """Whether the second arm of every pair is not worse than the first by the margin or more.

    Of accuracy tasks, one pair each (None without). Decided by the average of tasks where there is
    one, and 'no' if any task is worse; else by all tasks. One-sided, Holm-corrected over tasks and
    average. No 'yes' where a task is not tested.
    """
    graded = [pair for pair in pairs if pair[0].scorer.kind != "diversity"]
    if not graded:
        return None
    asked = Design(design.allow_missing, design.estimand, Claim.NON_INFERIOR, margin)
    found = [c for c in compare_pairs(graded, asked) if c.primary]
    a, b = graded[0][0].name, graded[0][1].name
    decided = [c for c in found if c.decision]
    withheld = [c for c in found if c.withheld]
    if not decided:
        why = withheld[0].withheld if withheld else "no task is decided by a fraction"
        return Answer("accuracy kept", a, b, Verdict.INCONCLUSIVE, f"not tested: {why}")
    verdicts = {c.task: c.decision.verdict for c in decided if c.decision}
    whole = verdicts.get(AVERAGE, _all(list(verdicts.values())))
    whole = Verdict.INCONCLUSIVE if withheld else whole
    verdict = Verdict.NO if Verdict.NO in verdicts.values() else whole
    untested = [f"{c.task} not tested ({c.withheld})" for c in withheld if c.task != AVERAGE]
    said = "; ".join([*map(_accuracy, decided), *untested])
    return Answer("accuracy kept", a, b, verdict, f"{said}; may lose {margin:.3g}")


def _all(verdicts: Sequence[Verdict]) -> Verdict:
    """Yes if all are."""
    return Verdict.YES if set(verdicts) == {Verdict.YES} else Verdict.INCONCLUSIVE


def _accuracy(c: Comparison) -> str:
    verdict = c.decision.verdict.value if c.decision else ""
    values = f"{c.result.value_a:.3f} to {c.result.value_b:.3f}"
    return f"{c.task} {values}, {_interval(c.result, sign=True)}: {verdict}"


def more_creative(
    pairs: Sequence[tuple[Arm, Arm]], margin: float, design: Design, said: Sequence[Said] = ()
) -> Answer | None:
    """Whether the second arms are more diverse at equal quality, on creative tasks (None without).

    A task's deciding metric counts nothing that is below the floor of quality. Yes: it is higher in
    some task (two-sided, Holm-corrected over tasks) and lower in none, and where it is higher the
    mean quality is not lower by the margin or more. No: it is lower in some and higher in none, or
    where it is higher quality is lost. What is `said` of these tasks and modes by judges that have
    passed their audit, or are calibrated with labels, takes a yes or a no back where it says the
    opposite, and gives none by itself; others are not heard.
    """
    creative = {pair[0].task: pair for pair in pairs if pair[0].scorer.kind == "diversity"}
    if not creative:
        return None
    plain = Design(design.allow_missing, design.estimand)
    found = [c for c in compare_pairs(list(creative.values()), plain) if c.primary]
    a, b = next(iter(creative.values()))
    heard = [s for s in said if s.task in creative and (s.mode_a, s.mode_b) == (a.mode, b.mode)]
    directions = [{"higher": 1, "lower": -1}.get(c.verdict, 0) for c in found]
    higher = [c.task for c in found if c.verdict == "higher"]
    quality = {task: _quality(*creative[task], margin) for task in higher if task in creative}
    verdicts = [verdict for verdict, _ in quality.values()]
    judges = "; ".join(one.text for one in heard) or "no judge that passed its audit"
    texts = [*map(_diversity, found), *(text for _, text in quality.values()), judges]
    verdict = _all_higher(directions, verdicts)
    against = {Verdict.YES: -1, Verdict.NO: 1}.get(verdict)
    if any(one.direction == against for one in heard):
        verdict = Verdict.INCONCLUSIVE
    return Answer("more creative", a.name, b.name, verdict, "; ".join(texts))


def _all_higher(directions: Sequence[int], kept: Sequence[Verdict]) -> Verdict:
    """`kept`: of everything that is higher, whether quality was."""
    if 1 in directions and -1 not in directions:
        return Verdict.NO if set(kept) == {Verdict.NO} else _all(kept)
    return Verdict.NO if -1 in directions and 1 not in directions else Verdict.INCONCLUSIVE


def _quality(a: Arm, b: Arm, margin: float) -> tuple[Verdict, str]:
    """Whether mean quality is kept, on the docs where both have it."""
    ours, theirs = a.values.get("quality", {}), b.values.get("quality", {})
    docs = [
        doc
        for doc in sorted(ours.keys() & theirs.keys())
        if not math.isnan(ours[doc] + theirs[doc])
    ]
    difference = paired_mean_difference(
        [ours[doc] for doc in docs], [theirs[doc] for doc in docs], fraction=True
    )
    decision = decide(difference, Claim.NON_INFERIOR, margin)
    found = _interval(difference, sign=True)
    return decision.verdict, f"its quality {found}, may lose {margin:.3g}"


def _diversity(c: Comparison) -> str:
    tested = c.verdict if not c.withheld else f"not tested ({c.withheld})"
    return f"{c.task} {c.metric} {_interval(c.result, sign=True)}: {tested}"
