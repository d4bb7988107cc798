"""All that a run says, as data: read once, then shown as files, tables, pictures and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psplit_eval.arms import Arm, Value, arm_values
from psplit_eval.behaviour import Behaviour, Compared, read_behaviour, reference_mode
from psplit_eval.beliefs import AUDITS, beliefs, fitting_cards
from psplit_eval.cards import Card
from psplit_eval.comparison import Comparison, compare_modes
from psplit_eval.conclusions import verdict
from psplit_eval.errors import DataError
from psplit_eval.files import defined
from psplit_eval.hearing import read_judged
from psplit_eval.judged import JudgedRun
from psplit_eval.labels import kept_labels
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.store import Store
from psplit_eval.training_curves import TrainingLog, kept_training_log, read_training_log

__all__ = ["Results", "read_results"]


@dataclass(frozen=True)
class Results:
    """`values`: every metric of every arm; `cards`: audits of the judges in `judged`; `verdict`: a
    few sentences on what differs, without the answers of `behaviour`; `training`: the log that the
    checkpoint came with; `notes`: what could not be read."""

    manifest: Mapping[str, Any]
    arms: Sequence[Arm]
    values: Sequence[Value]
    comparisons: Sequence[Comparison]
    judged: JudgedRun
    cards: Sequence[Card]
    behaviour: Behaviour
    verdict: str
    training: TrainingLog | None = None
    notes: Sequence[str] = ()

    @property
    def modes(self) -> list[str]:
        """Names, in the order of the run."""
        return [mode["name"] for mode in self.manifest["modes"]]

    def to_dict(self) -> dict[str, Any]:
        """For machines; fractions and bits, undefined numbers are null."""
        return {
            "verdict": self.verdict,
            "answers": [answer.to_dict() for answer in self.behaviour.answers],
            "results": list(map(_of_value, self.values)),
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "divergence": self.behaviour.to_dict(),
            "judgements": self.judged.to_dict() if self.judged.judges else None,
        }


def _of_value(value: Value) -> dict[str, Any]:
    estimate = value.estimate
    entry = {
        "task": value.task,
        "mode": value.mode,
        "metric": value.metric,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n_docs": estimate.n,
        "n_samples": value.n_samples,
        "unit": value.unit,
        "higher_is_better": value.higher_is_better,
    }
    return {name: defined(number) for name, number in entry.items()}


def read_results(
    folder: Path,
    manifest: Mapping[str, Any],
    store: Store,
    arms: Sequence[Arm],
    compared: Compared | None = None,
) -> Results:
    """From the store, and what else is in the run's folder; nothing is written."""
    compared = compared or Compared()
    design = compared.design
    comparisons = compare_modes(arms, design)
    judged, cards = _judged(folder, manifest, store, design.allow_missing)
    behaviour = read_behaviour(store, manifest, arms, replace(compared, said=judged.said()))
    training, notes = _training(folder)
    return Results(
        manifest=manifest,
        arms=arms,
        values=[value for arm in arms for value in arm_values(arm, design.allow_missing)],
        comparisons=comparisons,
        judged=judged,
        cards=cards,
        behaviour=behaviour,
        verdict=verdict(comparisons, arms, design, behaviour.answers),
        training=training,
        notes=notes,
    )


def _training(folder: Path) -> tuple[TrainingLog | None, list[str]]:
    log = kept_training_log(folder)
    try:
        return (read_training_log(log) if log else None), []
    except DataError as error:  # a report has more to say than curves
        return None, [f"No training curves: {error}"]


def _judged(
    folder: Path, manifest: Mapping[str, Any], store: Store, allow_missing: bool
) -> tuple[JudgedRun, list[Card]]:
    """What judges said and what their audits say, where any was asked; else nothing is made."""
    if not (folder / LEDGER).exists():
        return JudgedRun(), []
    reference = reference_mode(manifest["modes"])
    others = [mode["name"] for mode in manifest["modes"] if mode["name"] != reference]
    with Ledger(folder / LEDGER) as ledger:
        cards = list(fitting_cards(folder / AUDITS, ledger).values())
        modes, labels = [reference, *others], kept_labels(folder)
        return read_judged(store, ledger, modes, beliefs(cards), allow_missing, labels), cards
