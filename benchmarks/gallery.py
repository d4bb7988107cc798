"""The pictures in figures/ and the page that shows them: `python benchmarks/gallery.py RUN`.

RUN is the finished quick run of the README; `make figures` makes it, too. More folders are made of
committed numbers: figures/creative of the leaderboards of two runs (docs/validity.md),
figures/judges of what a judge said of a quick run (benchmarks/results/judgements_quick.json), and
figures/training of the log of a training (figures/training/training_log.jsonl).
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from psplit_eval.behaviour import Compared, read_behaviour
from psplit_eval.behaviour_plots import draw_behaviour
from psplit_eval.figures import Plot
from psplit_eval.files import write_text
from psplit_eval.findings import Finding
from psplit_eval.frontier import FrontierPoint, draw_frontier
from psplit_eval.judge_plots import draw_judges
from psplit_eval.judged import JudgedRun, Preferred, Scored
from psplit_eval.overlap_plots import draw_overlap
from psplit_eval.plots import draw
from psplit_eval.preferences import AtEqualLength, Strengths, WinRate
from psplit_eval.stats import Estimate
from psplit_eval.store import Store
from psplit_eval.stored import stored_arms
from psplit_eval.training_curves import LOG_NAMES, draw_training, read_training_log

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
JUDGEMENTS = ROOT / "benchmarks" / "results" / "judgements_quick.json"
TEMPERATURES = ("1.0", "1.5")
KEPT = ("leaderboard.csv", "comparison.json", "divergence.json")
"""What else of the quick run is kept beside its pictures; other pages name their numbers."""
HEAD = """# Figures

All pictures that psplit draws, of real runs of SmolLM2-135M-Instruct, which was never trained in
modes: so no mode should be better than another; and the curves of a tiny model's training. Each is
there as PNG and SVG, and its numbers as CSV. All of this page is made by

    make figures

which makes the quick run first where `runs/quick` has none (some minutes on two CPU cores), or of
a finished quick run by

    python benchmarks/gallery.py runs/quick

`psplit-eval run` and `psplit-eval report RUN` draw the same pictures of any run, into `RUN/plots`.
"""
SECTIONS = {
    "quick": "The quick run: both built-in modes, float32 on a CPU, scored under each other's "
    "prompts and under placebos.",
    "judges": "What the same small model said as a judge of a quick run "
    "([judgements_quick.json](../benchmarks/results/judgements_quick.json)). It failed its audit "
    "([docs/judges_evidence.md](../docs/judges_evidence.md)), and that is what the picture has to "
    "show.",
    "creative": "The suite `creative` at two temperatures: how the runs were made is in "
    "[docs/validity.md](../docs/validity.md#what-is-known-to-be-true-temperature), their "
    "leaderboards are `t1.0.csv` and `t1.5.csv`.",
    "training": "A tiny model from nothing, trained by `psplit-train run configs/demo.yaml` "
    "(`make train-demo`); the curves are of the main keys of its log, "
    "[training_log.jsonl](training/training_log.jsonl). "
    "[docs/stability.md](../docs/stability.md) says what they show.",
}


@dataclass(frozen=True)
class Section:
    """A folder of pictures."""

    name: str
    plots: Sequence[Plot]


def main(run: Path) -> None:
    sections = [
        Section("quick", quick(run, FIGURES / "quick")),
        Section("judges", judges(FIGURES / "judges")),
        Section("creative", creative(FIGURES / "creative", FIGURES / "creative")),
        Section("training", training(FIGURES / "training", FIGURES / "training")),
    ]
    write_text(FIGURES / "README.md", page(sections))


def quick(run: Path, folder: Path) -> list[Plot]:
    """All pictures of a stored run that was scored under its other modes."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest, arms = stored_arms(run)
    with Store(run / "samples.sqlite") as store:
        behaviour = read_behaviour(store, manifest, arms, Compared())
    for name in KEPT:
        shutil.copy(run / name, folder / name)
    modes = [mode["name"] for mode in manifest["modes"]]
    made = draw(arms, folder, manifest=manifest)
    made += draw_behaviour(behaviour, folder)
    return made + draw_overlap(behaviour.findings, modes, folder)


def creative(boards: Path, folder: Path) -> list[Plot]:
    """Diversity against quality at two temperatures, from the leaderboards of both runs."""
    rows: dict[tuple[str, ...], Estimate] = {}
    for temperature in TEMPERATURES:
        with (boards / f"t{temperature}.csv").open() as file:
            for row in csv.DictReader(file):
                rows[row["task"], row["mode"], temperature, row["metric"]] = _of_board(row)
    tasks, modes = (list(dict.fromkeys(key[place] for key in rows)) for place in (0, 1))
    points = []
    for task, mode, temperature in product(tasks, modes, TEMPERATURES):
        names = ("quality", "dispersion_beyond_prompt")
        quality, diversity = (rows.get((task, mode, temperature, name)) for name in names)
        if quality and diversity:
            label = f"T {float(temperature):g}"
            points.append(FrontierPoint(mode, label, quality, diversity, task))
    folder.mkdir(parents=True, exist_ok=True)
    plot = draw_frontier(points, folder, diversity="dispersion_beyond_prompt")
    return [plot] if plot else []


def training(log: Path, folder: Path) -> list[Plot]:
    """The curves of a training in two modes, from its log."""
    folder.mkdir(parents=True, exist_ok=True)
    return draw_training(read_training_log(log / LOG_NAMES[0]), ("normal", "high"), folder)


def _of_board(row: Mapping[str, str]) -> Estimate:
    names = ("value", "ci_low", "ci_high")
    value, low, high = (float(row[name]) if row[name] else math.nan for name in names)
    return Estimate(value, low, high, int(row["n_docs"]))


def judges(folder: Path, judgements: Path = JUDGEMENTS) -> list[Plot]:
    """What judges said, read back from a judgements.json."""
    said = json.loads(judgements.read_text(encoding="utf-8"))
    scored = [_scored(entry) for entry in said["scores"]]
    preferred = [_preferred(entry) for entry in said["preferences"]]
    rubrics = {entry["rubric_hash"]: entry["rubric"] for entry in said["scores"]}
    folder.mkdir(parents=True, exist_ok=True)
    return draw_judges(JudgedRun(scored, preferred, rubrics=rubrics), folder)


def _scored(entry: Mapping[str, Any]) -> Scored:
    return Scored(
        **{name: entry[name] for name in ("judge", "rubric", "rubric_hash", "task", "dimension")},
        primary=entry["primary"],
        scale=tuple(entry["scale"]),
        belief=entry["audit"],
        by_mode={mode: _estimate(found) for mode, found in entry["modes"].items()},
        missing=entry["missing"],
        asked=entry["asked"],
        findings=list[Finding](),
        counts=False,
    )


def _preferred(entry: Mapping[str, Any]) -> Preferred:
    a, b = entry["mode_a"], entry["mode_b"]
    counts = ("pairs", "missing", "ties", "flips", "half_decided")
    found = WinRate(
        *(a, b, _estimate(entry["win_rate_b"]), entry["p"], entry["test"] or ""),
        shown_first=_estimate(entry["shown_first"]),
        docs_missing=0,
        **{name: entry[name] for name in counts},
    )
    fair = {b: _estimate(entry["win_rate_b_at_equal_length"])}
    strengths = Strengths(a, {}, fair, "", entry["pairs"], entry["missing"], entry["note"] or "")
    return Preferred(
        **{name: entry[name] for name in ("judge", "rubric", "rubric_hash", "task")},
        belief=entry["audit"],
        found=found,
        equal_length=AtEqualLength(strengths, {}, _estimate(entry["length_effect"])),
        unasked=entry["unasked"],
        withheld=False,
        counts=False,
    )


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    numbers = [entry[name] for name in ("value", "ci_low", "ci_high")]
    value, low, high = (math.nan if x is None else float(x) for x in numbers)
    return Estimate(value, low, high, entry["n"])


def page(sections: Sequence[Section]) -> str:
    """figures/README.md."""
    parts = [HEAD]
    for section in sections:
        parts.append(f"## {section.name}/\n\n{SECTIONS[section.name]}\n")
        parts += [f"{text}\n" for plot in section.plots for text in _shown(section.name, plot)]
    return "\n".join(parts)


def _shown(folder: str, plot: Plot) -> Iterator[str]:
    files = ", ".join(
        f"[{path.suffix[1:].upper()}]({folder}/{path.name})" for path in (plot.svg, plot.csv)
    )
    yield f"### {plot.name}"
    yield f"![{_escaped(plot.alt)}]({folder}/{plot.png.name})"
    yield f"{_escaped(plot.caption)} ({files})"


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]*_<>|`\\])", r"\\\1", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "quick")
