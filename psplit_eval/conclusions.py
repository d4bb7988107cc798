"""The comparisons of a run, or of two, in a few sentences that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from psplit_eval.arms import Arm
from psplit_eval.comparison import ALPHA, Comparison, Design
from psplit_eval.margins import Verdict
from psplit_eval.verdicts import Answer

__all__ = ["answer_in_words", "runs_verdict", "verdict"]

_MANY_CUT = 0.2
"""From this share of truncated answers on, the verdict warns."""


def verdict(
    comparisons: Sequence[Comparison],
    arms: Sequence[Arm] = (),
    design: Design | None = None,
    answers: Sequence[Answer] = (),
) -> str:
    """A run in a few sentences: what differs between its modes.

    `arms`: warned of where many answers were cut; `design`: whether a claim was to be decided;
    `answers`: what they leave open is said.
    """
    splits = [answer.verdict for answer in answers if answer.question == "split"]
    decided = bool(splits) and Verdict.INCONCLUSIVE not in splits
    said = _conclusion(
        comparisons,
        design,
        alone="Only one mode has samples: there is nothing to compare.",
        little=""
        if decided
        else "A checkpoint that was never trained in modes shows this, since a system prompt "
        "alone changes little; so does any other on too few docs.",
        much=""
        if decided
        else "A system prompt alone can do that: whether two policies were learnt takes a placebo "
        "comparison (psplit-eval diverge RUN).",
    )
    return " ".join(part for part in (said, _of_cut(arms)) if part)


def answer_in_words(answer: Answer) -> str:
    """One answer on a line."""
    return f"{answer.asked}: {answer.verdict.value}. {answer.evidence}."


def _of_cut(arms: Sequence[Arm]) -> str:
    """A warning where the token limit decides what is right."""
    shares = {
        arm.task: (arm.truncated or 0) / max(1, arm.planned - arm.missing)
        for arm in sorted(arms, key=lambda arm: arm.truncated or 0)
        if arm.scorer.kind != "diversity"
    }
    cut = [f"{task} {share:.0%}" for task, share in shares.items() if share >= _MANY_CUT]
    if not cut:
        return ""
    return (
        f"Caution: many answers were cut at the token limit ({', '.join(cut)}) and psplit's tasks "
        "count them as wrong; raise max_tokens."
    )


def runs_verdict(comparisons: Sequence[Comparison], design: Design | None = None) -> str:
    """Two runs in a few sentences: what differs between them in the same mode."""
    return _conclusion(
        comparisons,
        design,
        alone="Nothing is in both runs: there is nothing to compare.",
        little="",
        much="The table of what differs between the runs says what else could be the reason.",
    )


def _conclusion(
    comparisons: Sequence[Comparison], design: Design | None, alone: str, little: str, much: str
) -> str:
    primary = [c for c in comparisons if c.primary]
    if not primary:
        return alone
    parts = (
        _of_withheld(primary),
        _of_tested(primary, little, much),
        _of_claims(primary, bool(design and design.claim)),
    )
    return " ".join(part for part in parts if part)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _of_withheld(primary: Sequence[Comparison]) -> str:
    withheld = [c for c in primary if c.withheld]
    if not withheld:
        return ""
    return (
        f"{len(withheld)} of {len(primary)} primary comparisons are not tested "
        f"({withheld[0].withheld}). {withheld[0].remedy}"
    )


def _of_tested(primary: Sequence[Comparison], little: str, much: str) -> str:
    tested = [c for c in primary if not c.withheld]
    if not tested:
        return ""
    if all(math.isnan(c.result.p) or _all_agree(c) for c in tested):
        decided = any(c.decision and c.decision.verdict is not Verdict.INCONCLUSIVE for c in tested)
        opening = "No difference was seen" if decided else "Nothing can be said"
        return (
            f"{opening}: in every primary comparison the docs are too few, or none of them differs "
            "at all (no answer right in any arm, say). Take more docs or a task of fitting "
            "difficulty."
        )
    differing = [c for c in tested if c.verdict in ("higher", "lower")]
    if not differing:
        return (
            f"No significant difference in {_counted(len(tested), 'primary comparison')} of "
            f"{min(c.result.n for c in tested)} docs or more (two-sided, Holm-corrected, alpha "
            f"{ALPHA}). {little} It is no proof of equality: the intervals say how large a "
            "difference could still be."
        ).replace("  ", " ")
    claims = "; ".join(_difference(c) for c in differing)
    return (
        f"{len(differing)} of {len(tested)} primary comparisons are significant (two-sided, "
        f"Holm-corrected, alpha {ALPHA}): {claims}. {much}"
    )


def _difference(c: Comparison) -> str:
    return (
        f"{c.task} {c.metric}: {c.arm_b} is {c.verdict} than {c.arm_a} by "
        f"{abs(c.result.difference):.3f} (p {c.p_adjusted:.2g})"
    )


def _of_claims(primary: Sequence[Comparison], asked: bool) -> str:
    """The claims against the margin by their answers."""
    said = []
    for verdict in Verdict:
        members = [c for c in primary if c.decision and c.decision.verdict is verdict]
        arms = ", ".join(f"{c.task} ({c.arm_b} against {c.arm_a})" for c in members)
        said += [f"{verdict.value}: {arms}"] if members else []
    decision = next((c.decision for c in primary if c.decision), None)
    if decision is None:
        nothing = "The margin decides nothing: no primary metric that is tested is a fraction."
        return nothing if asked else ""
    claim = decision.claim.value.capitalize()
    return (
        f"{claim} at a margin of {decision.margin:g} (family 'claims', one-sided, Holm-corrected, "
        f"alpha {decision.alpha:g}): {'; '.join(said)}."
    )


def _all_agree(comparison: Comparison) -> bool:
    """Whether no doc differs between the arms."""
    return comparison.result.differing == 0
