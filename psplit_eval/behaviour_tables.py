"""What a report says in tables of how modes behave beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from psplit_eval.behaviour import Behaviour
from psplit_eval.divergence import Stretch
from psplit_eval.findings import Finding
from psplit_eval.stats import Difference, Estimate
from psplit_eval.tables import Table

__all__ = ["behaviour_tables"]

_SHOWN_TOKENS = 8
_TOKEN_MEASURES = (
    "kl_bits",
    "kl_sampled_bits",
    "js_bits",
    "entropy_gap_bits",
    "surprisal_gap_bits",
)


def behaviour_tables(behaviour: Behaviour) -> list[Table]:
    """What the answers rest on first; a table without rows is for the caller to leave out."""
    tokens = [f for f in behaviour.findings if f.measure in _TOKEN_MEASURES]
    samples = [f for f in behaviour.findings if f.measure not in _TOKEN_MEASURES]
    return [
        _placebos(behaviour),
        _matrix(behaviour),
        _findings(
            "Divergence, token by token",
            "At the contexts of the samples of `at`: KL(at‖policy), of the full vocabulary if not "
            "noted, and its estimate of the sampled tokens; Jensen-Shannon; entropy and surprisal "
            "of the policy less those of `at`. Bits a token, pooled [95 % over docs].",
            tokens,
            ("task", "at", "policy"),
        ),
        _positions(behaviour),
        _tokens(behaviour),
        _findings(
            "Samples of two modes beside each other",
            "Texts, answers and solutions; a is the reference. What each measure means: "
            "docs/divergence.md. 95 % intervals over docs.",
            samples,
            ("task", "a", "b"),
        ),
    ]


def _placebos(behaviour: Behaviour) -> Table:
    rows = [
        (
            split.answer.mode_b,
            {"kl": "KL", "entropy": "entropy"}[excess.measure],
            excess.placebo,
            _interval(excess.difference, sign=True),
            f"{'−' if excess.direction < 0 else ''}{excess.margin:g}",
            _number(excess.p),
            _number(excess.p_against),
        )
        for split in behaviour.splits
        for excess in split.excesses
    ]
    return Table(
        "Beyond the placebos",
        f"Each mode and each neutral prompt against {behaviour.reference}, at the contexts of its "
        "samples: by how much the mode's KL and entropy exceed the placebo's. Bits a token, mean "
        "over tasks [95 % over docs]. Split: all p of yes under 0.05.",
        ("mode", "what", "placebo", "beyond it", "margin", "p of yes", "p of no"),
        tuple(rows),
    )


def _matrix(behaviour: Behaviour) -> Table:
    """Modes that were sampled, by policies."""
    modes = list(dict.fromkeys(mode for mode, _ in behaviour.matrix))
    policies = list(dict.fromkeys([*modes, *(policy for _, policy in behaviour.matrix)]))
    return Table(
        "Matrix of modes",
        "KL(row‖column) in bits a token at the contexts of the row's samples, mean over tasks "
        "[95 % over docs]. A column without a row was not sampled: its prompt alone was tried.",
        ("samples of", *policies),
        tuple(
            (
                mode,
                *(
                    _interval(behaviour.matrix[mode, policy])
                    if (mode, policy) in behaviour.matrix
                    else ("0" if mode == policy else "")
                    for policy in policies
                ),
            )
            for mode in modes
        ),
    )


def _findings(
    title: str, note: str, findings: Sequence[Finding], names: tuple[str, str, str]
) -> Table:
    tested = (
        " p: family 'behaviour', Benjamini-Hochberg-corrected over all tables of this family: "
        "leads, not claims."
        if any(finding.test for finding in findings)
        else ""
    )
    return Table(
        title,
        note + tested,
        (*names, "measure", "value [95 %]", "unit", "p (BH)", "test", "docs", "note"),
        tuple(
            (
                f.task,
                f.mode_a,
                f.mode_b,
                f.measure,
                _estimate(f.estimate),
                f.unit,
                _number(f.p_adjusted) if f.test else "",
                f.test,
                str(f.estimate.n),
                f.note,
            )
            for f in findings
        ),
    )


def _positions(behaviour: Behaviour) -> Table:
    rows = [
        (*cell, _places(s), _estimate(s.kl), _estimate(s.entropy_mode), _estimate(s.entropy_policy))
        for cell, stretches in behaviour.curves.items()
        for s in stretches
    ]
    return Table(
        "Over the position in the response",
        "Token positions from 0, in stretches that double. Bits a token [95 % over the docs that "
        "reach so far].",
        ("task", "at", "policy", "tokens", "KL(at‖policy)", "entropy of at", "entropy of policy"),
        tuple(rows),
    )


def _places(stretch: Stretch) -> str:
    if stretch.first == stretch.last:
        return str(stretch.first)
    return f"{stretch.first} to {stretch.last}"


def _tokens(behaviour: Behaviour) -> Table:
    rows = []
    for cell, found in behaviour.carriers.items():
        shown = ", ".join(_token(text, c.share) for text, c in found[:_SHOWN_TOKENS])
        rows.append((*cell, shown))
    return Table(
        "Tokens that carry the divergence",
        "Of the whole of KL(at‖policy), the share at the places where the samples of `at` say the "
        "token.",
        ("task", "at", "policy", "tokens"),
        tuple(rows),
    )


def _token(text: str, share: float) -> str:
    return f"{text!r} {share:.0%}" if math.isfinite(share) else repr(text)


def _interval(found: Difference, sign: bool = False) -> str:
    low, high = found.spread.limits()
    return _estimate(Estimate(found.difference, low, high, found.n), sign)


def _estimate(found: Estimate, sign: bool = False) -> str:
    value = _number(found.value, sign)
    if not math.isfinite(found.ci_low + found.ci_high):
        return value
    return f"{value} [{_number(found.ci_low, sign)}, {_number(found.ci_high, sign)}]"


def _number(value: float, sign: bool = False) -> str:
    return "–" if math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"
