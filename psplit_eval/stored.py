"""Work with runs that are there: score, report, import, compare. Nothing is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psplit_eval.arms import Arm, read_arms, with_pools
from psplit_eval.behaviour import Compared, reference_mode
from psplit_eval.beliefs import AUDITS, fitting_cards, take_cards
from psplit_eval.catalog import Catalog
from psplit_eval.comparison import Comparison, Design, compare_pairs
from psplit_eval.conclusions import answer_in_words, runs_verdict
from psplit_eval.errors import UsageError
from psplit_eval.files import write_json
from psplit_eval.importing import find_logs, read_logs
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.manifest import (
    Manifest,
    locked,
    new_manifest,
    open_run,
    read_manifest,
)
from psplit_eval.measures import completed, stored_scorer, working_scorer
from psplit_eval.paired_runs import PairedRuns, StoredRun
from psplit_eval.report import COMPARISON_FILES, write_comparison, write_report
from psplit_eval.rescoring import Yardsticks, score_store
from psplit_eval.results import Results
from psplit_eval.sampling import Tally
from psplit_eval.scoring import Scorer
from psplit_eval.store import Doc, Store
from psplit_eval.verdicts import Margins

__all__ = [
    "RunResult",
    "RunsCompared",
    "as_stored",
    "baseline_pairs",
    "check_own",
    "compare_runs",
    "conclude",
    "import_run",
    "judged_report",
    "opened_run",
    "paired_arms",
    "report_run",
    "score_run",
    "stored_arms",
]


@dataclass(frozen=True)
class RunResult:
    """Where the run lies and what it found; a part of a run has no report, so no `results`.

    `summary`, and `judges` where any was asked, are tables for a terminal; so is `calibrated`, that
    of judges that labels calibrate.
    """

    folder: Path
    verdict: str
    sampled: int
    failed: int
    summary: str
    notes: Sequence[str] = ()
    judges: str = ""
    calibrated: str = ""
    results: Results | None = None


@dataclass(frozen=True)
class RunsCompared:
    """What the comparison of two runs found; `summary` is for a terminal."""

    comparisons: Sequence[Comparison]
    facts: Sequence[tuple[str, str, str]]
    verdict: str
    summary: str


def score_run(
    folder: Path,
    allow_missing: bool = False,
    include: Sequence[Path] = (),
    measured_by: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Compute every metric of a stored run again, and report.

    Texts are measured by what the run was scored with last, as far as `measured_by` gives no other
    names (see `Yardsticks`); `say` hears about slow steps. A task that lm-eval measures is looked
    up among psplit's and lm-eval's tasks and those in `include`, and measured as it is defined now,
    which the manifest then says. Raises UsageError where there is no run, or no such task.
    """
    manifest = open_run(folder)
    catalog, notes = Catalog(include), []
    names = {**manifest.get("yardsticks", {}), **(measured_by or {})}
    yardsticks = Yardsticks.named(names, say)
    with locked(folder), Store(folder / "samples.sqlite") as store:
        scorers: dict[str, Scorer] = {}
        for name, entry in manifest["tasks"].items():
            known = completed(entry["scorer"], name, catalog)
            scorers[name] = working_scorer(known, catalog, _first_doc(store, name))
            now = scorers[name].to_dict()
            if now != known and known["kind"] == "lm-eval":
                notes.append(f"task {name}: its definition has changed since it was measured last")
            entry["scorer"] = now
        return conclude(store, folder, manifest, allow_missing, scorers, yardsticks, notes=notes)


def _first_doc(store: Store, task: str) -> Doc:
    doc = next(store.docs(task), None)
    if doc is None:
        raise _nothing_drawn(store)
    return doc


def _nothing_drawn(store: Store) -> UsageError:
    return UsageError(
        f"store {store.path}: no sample is drawn yet; give the run's command again to draw them"
    )


def report_run(
    folder: Path,
    design: Design | None = None,
    margins: Margins | None = None,
    baseline: Path | None = None,
) -> RunResult:
    """Compare and report again from the stored metrics.

    `margins`: what the answers about the modes need; `baseline`: a run that the accuracy of the
    reference mode is held against, else that mode is the only measure. Raises UsageError where
    there is no run, and as `compare_runs` for a baseline that cannot be compared.
    """
    manifest = open_run(folder)
    pairs = baseline_pairs(baseline, folder, manifest) if baseline else []
    compared = Compared(margins or Margins(), design or Design(), pairs)
    with locked(folder), Store(folder / "samples.sqlite") as store:
        return _reported(store, folder, manifest, compared, Tally())


def judged_report(
    folder: Path, audits: Path, allow_missing: bool = False
) -> tuple[RunResult, list[tuple[str, str]]]:
    """Report what judges said, with those audits of theirs that are there: the result, and which
    judges have one, by which rubric (its hash).

    Raises as `report_run`, DataError for what is no audit.
    """
    open_run(folder)
    with locked(folder), Ledger(folder / LEDGER) as ledger:
        take_cards(audits, folder, ledger)
        cards = fitting_cards(folder / AUDITS, ledger).values()
        audited = [(card.judge, card.rubric_hash) for card in cards]
    return report_run(folder, Design(allow_missing=allow_missing)), audited


def baseline_pairs(baseline: Path, folder: Path, manifest: Manifest) -> list[tuple[Arm, Arm]]:
    """Arms of the baseline and of this run in the reference mode; raises as `compare_runs`."""
    mode = reference_mode(manifest["modes"])
    with opened_run(baseline) as a, opened_run(folder) as b:
        both = PairedRuns(a, b, [mode])
        both.check()
        return paired_arms(both)


def paired_arms(both: PairedRuns) -> list[tuple[Arm, Arm]]:
    """Every arm of the first run with that of the second, pools that both have included."""
    arms = with_pools(both.arms(), _shared_pools(both.a.manifest, both.b.manifest))
    one, other = both.labels
    second = {(arm.task, arm.mode): arm for arm in arms if arm.run == other}
    return [(arm, second[arm.task, arm.mode]) for arm in arms if arm.run == one]


def import_run(
    logs: Sequence[str],
    folder: Path,
    include: Sequence[Path] = (),
    allow_missing: bool = False,
    command: Sequence[str] = (),
) -> RunResult:
    """Make a run of samples that lm_eval logged (see `importing.find_logs`), score and report.

    Raises UsageError for a folder that is a run already; nothing is written before all is read.
    """
    if read_manifest(folder) is not None:
        raise UsageError(f"--out {str(folder)!r}: a run already; give another --out")
    catalog = Catalog(include)
    found = read_logs(find_logs(logs), catalog)
    manifest = new_manifest({"command": list(command), **found.manifest})
    with locked(folder), Store(folder / "samples.sqlite") as store:
        store.add_plan(found.prompts, found.docs)
        store.add_samples(found.samples)
        write_json(folder / "manifest.json", manifest)
        scorers = {
            name: working_scorer(entry["scorer"], catalog, _first_doc(store, name))
            for name, entry in manifest["tasks"].items()
        }
        return conclude(
            store, folder, manifest, allow_missing, scorers, Yardsticks(), notes=found.notes
        )


def compare_runs(
    folders: tuple[Path, Path],
    modes: Sequence[str] = (),
    allowed: Iterable[str] = (),
    out: Path | None = None,
    design: Design | None = None,
) -> RunsCompared:
    """Compare two runs in the same modes (default: all that both have), paired by doc.

    The stored metrics are compared; `out` gets the comparison's files. Raises UsageError or
    RunMismatchError for runs that cannot be compared (see `paired_runs`).
    """
    if out is not None:
        check_own(out, COMPARISON_FILES)
    with opened_run(folders[0]) as a, opened_run(folders[1]) as b:
        both = PairedRuns(a, b, modes)
        both.check(allowed)
        pairs = paired_arms(both)
        facts = both.facts()
    one, other = both.labels
    comparisons = compare_pairs(pairs, design)
    conclusion = runs_verdict(comparisons, design)
    summary = write_comparison(out, f"{other} against {one}", conclusion, facts, comparisons)
    return RunsCompared(comparisons, facts, conclusion, summary)


def check_own(out: Path, files: Iterable[str]) -> None:
    """Raise UsageError for a folder that holds anything but `files`, which an earlier command with
    the same --out has left."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {str(out)!r}: a file, expected a folder; give another --out")
    others = {path.name for path in out.iterdir()} - set(files) if out.is_dir() else ()
    if others:
        raise UsageError(
            f"--out {str(out)!r}: holds other files ({min(others)}), expected a folder of its own; "
            "give another --out"
        )


def _shared_pools(a: Manifest, b: Manifest) -> dict[str, Sequence[str]]:
    pools = [manifest.get("pools") or {} for manifest in (a, b)]
    return {name: tasks for name, tasks in pools[0].items() if pools[1].get(name) == tasks}


@contextmanager
def opened_run(folder: Path) -> Iterator[StoredRun]:
    """A run with its arms, pools aside, while its store is open; raises as `stored_arms`."""
    manifest = open_run(folder)
    with Store(folder / "samples.sqlite") as store:
        yield as_stored(folder, manifest, store)


def as_stored(folder: Path, manifest: Manifest, store: Store) -> StoredRun:
    """A run whose store is open; raises UsageError where nothing is drawn or scored yet."""
    return StoredRun(folder, manifest, store, _arms(store, manifest))


def conclude(
    store: Store,
    folder: Path,
    manifest: Manifest,
    allow_missing: bool,
    scorers: Mapping[str, Scorer],
    yardsticks: Yardsticks,
    tally: Tally | None = None,
    notes: Sequence[str] = (),
) -> RunResult:
    """Score the stored samples and write every result file.

    `scorers` are those at hand; psplit's others come from the manifest, and where lm-eval measures
    a task that is not at hand, the stored numbers stay.
    """
    own = {
        name: stored_scorer(entry["scorer"])
        for name, entry in manifest["tasks"].items()
        if entry["scorer"]["kind"] != "lm-eval"
    }
    score_store(store, {**own, **scorers}, yardsticks)
    manifest["yardsticks"] = yardsticks.to_dict()
    manifest["unmeasured_by"] = yardsticks.absent
    write_json(folder / "manifest.json", manifest)
    said = [*notes, *yardsticks.notes]
    compared = Compared(design=Design(allow_missing=allow_missing))
    return _reported(store, folder, manifest, compared, tally or Tally(), said)


def _reported(
    store: Store,
    folder: Path,
    manifest: Manifest,
    compared: Compared,
    tally: Tally,
    notes: Sequence[str] = (),
) -> RunResult:
    arms = with_pools(_arms(store, manifest), manifest.get("pools") or {})
    written = write_report(folder, manifest, store, arms, compared)
    results = written.results
    return RunResult(
        folder,
        "\n".join([results.verdict, *map(answer_in_words, results.behaviour.answers)]),
        tally.samples,
        tally.failed,
        written.summary,
        notes,
        judges=written.judges,
        calibrated=written.calibrated,
        results=results,
    )


def stored_arms(folder: Path) -> tuple[Manifest, list[Arm]]:
    """A run's manifest and its arms, pools included. Raises UsageError where there is no run."""
    manifest = open_run(folder)
    with Store(folder / "samples.sqlite") as store:
        return manifest, with_pools(_arms(store, manifest), manifest.get("pools") or {})


def _arms(store: Store, manifest: Manifest) -> list[Arm]:
    scorers = {name: stored_scorer(task["scorer"]) for name, task in manifest["tasks"].items()}
    modes = [mode["name"] for mode in manifest["modes"]]
    asked = {name: task.get("asked", {}) for name, task in manifest["tasks"].items()}
    arms = read_arms(store, scorers, modes, asked)
    if not arms:
        raise _nothing_drawn(store)
    for name in scorers:
        _check_scored(store, [arm for arm in arms if arm.task == name])
    return arms


def _check_scored(store: Store, arms: Sequence[Arm]) -> None:
    """Raise UsageError where docs of a task (counted once a mode) have no number of their own.

    lm-eval's metrics may say nothing of some docs, but not of all.
    """
    unscored = sum(len(arm.good.keys() - set().union(*arm.values.values())) for arm in arms)
    partly = any(arm.values for arm in arms) and arms[0].scorer.kind == "lm-eval"
    if unscored and not partly:
        raise UsageError(
            f"store {store.path}: {unscored} docs of task {arms[0].task!r} are not scored yet (the "
            f"run was stopped before); psplit-eval score {store.path.parent}"
        )
