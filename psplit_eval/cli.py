"""`psplit-eval`: the only module that prints or exits.

Nothing heavy is imported before a command needs it, so `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psplit_eval import __version__
from psplit_eval.cli_audit import add_audit_options, audit_json, audit_options, audit_text
from psplit_eval.cli_board import add_board_options, published_models
from psplit_eval.cli_calibrate import (
    add_calibrate_options,
    calibrate_draw,
    drawn_json,
    drawn_text,
    taken_text,
)
from psplit_eval.cli_design import design, margins
from psplit_eval.cli_gate import add_gate_options, check_sequential, decided
from psplit_eval.cli_judge import add_judge_options, bill_json, bill_text, judge_options
from psplit_eval.cli_plan import add_plan_options, plan_json, plan_options, plan_text
from psplit_eval.cli_run import (
    add_diverge_options,
    add_run_options,
    diverge_options,
    names_in,
    run_options,
    yardsticks,
)
from psplit_eval.cli_stored import (
    add_compare_options,
    add_doctor_options,
    add_export_options,
    add_import_options,
    add_merge_options,
    add_report_options,
    add_score_options,
    add_tasks_options,
    add_view_options,
    allowed_differences,
)
from psplit_eval.commandline import OneLineParser, exit_code
from psplit_eval.errors import InfrastructureError, PsplitError, UsageError

if TYPE_CHECKING:
    from psplit_eval.stored import RunResult

__all__ = ["command_parser", "main"]

Command = Callable[[argparse.Namespace, Sequence[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (0 pass, 2 usage, 4 infrastructure)."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        options = command_parser().parse_args(given)
        return int(options.command(options, given))

    return exit_code(
        "psplit-eval",
        work,
        "what was done is kept: give the same command again to go on",
    )


def command_parser() -> argparse.ArgumentParser:
    """All commands and their options; docs/reference/commands.md is made of it."""
    parser = OneLineParser(
        prog="psplit-eval",
        description="Measure a chat checkpoint in its modes: accuracy, diversity, what differs.",
    )
    parser.add_argument("--version", action="version", version=f"psplit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    known: tuple[tuple[str, str, Command | None, Callable[[argparse.ArgumentParser], None]], ...]
    known = (
        ("run", "sample, score, compare and report", _run, add_run_options),
        ("diverge", "are the modes two policies? score and report", _diverge, add_diverge_options),
        ("judge", "have judges score or compare a run's samples", _judge, add_judge_options),
        ("audit", "what a judge is worth, before it is believed", _audit, add_audit_options),
        ("calibrate", "judges' scores with people's labels", _calibrate, add_calibrate_options),
        ("score", "compute metrics again from the store", _score, add_score_options),
        ("report", "compare and report again", _report, add_report_options),
        ("merge", "join the shards of a run into the whole run", _merge, add_merge_options),
        ("compare", "two runs in the same mode, paired by doc", _compare, add_compare_options),
        ("leaderboard", "rank checkpoints and modes over several runs", _board, add_board_options),
        ("gate", "may a checkpoint pass? rules and exit codes for CI", _gate, add_gate_options),
        ("plan", "docs, samples, time and cost that a goal takes", _plan, add_plan_options),
        ("import", "make a run of samples that lm_eval logged", _import, add_import_options),
        ("tasks", "list tasks and suites", _tasks, add_tasks_options),
        ("runs", "list, describe and delete runs", None, _add_runs),
        ("view", "browse a run's samples in a local page", _view, add_view_options),
        ("export", "write a run's samples or metrics to one file", _export, add_export_options),
        ("doctor", "check this machine: libraries, space, servers", _doctor, add_doctor_options),
        ("completion", "print a shell's completion script", _completion, _add_completion),
    )
    for name, about, command, add_options in known:
        added = commands.add_parser(name, help=about)
        added.set_defaults(command=command)
        add_options(added)
    return parser


def _add_runs(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=OneLineParser)
    listing = actions.add_parser("list", help="every run below a folder, newest first")
    listing.set_defaults(command=_runs_list)
    describing = actions.add_parser("describe", help="what a run is and how far it got")
    describing.set_defaults(command=_runs_describe)
    describing.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    pruning = actions.add_parser("prune", help="delete runs that are empty or old")
    pruning.set_defaults(command=_runs_prune)
    add = pruning.add_argument
    add("--older-than", type=float, metavar="DAYS", help="runs made that long ago, too")
    add("--yes", action="store_true", help="delete; without it, only say what would be deleted")
    for action in (listing, pruning):
        root = action.add_argument("root", type=Path, nargs="?", default=Path("runs"))
        root.metavar, root.help = "ROOT", "folder to search (runs)"
    for action in (listing, describing, pruning):
        action.add_argument("--json", action="store_true", help="print as JSON")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.description = 'Bash: eval "$(psplit-eval completion bash)" in ~/.bashrc.'
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose script to print")


def _run(options: argparse.Namespace, given: Sequence[str]) -> int:
    request = run_options(options, given)
    _prepare()
    from psplit_eval.run import run

    screen = _screen()
    started = time.monotonic()
    result = run(request, screen)
    seconds = time.monotonic() - started
    drawn = {"sampled": result.sampled, "failed": result.failed, "seconds": round(seconds, 1)}
    if options.json:
        _print_result(result, as_json=True, more=drawn)
        return 0
    _print_result(result)
    if result.failed:
        print(f"{result.failed} samples failed; give the same command again to try them again.")
    print(f"{result.sampled} samples drawn, {seconds:.0f} s in all")
    return 0


def _diverge(options: argparse.Namespace, _: Sequence[str]) -> int:
    request = diverge_options(options)
    _prepare()
    from psplit_eval.diverging import diverge_run

    result = diverge_run(request, _screen())
    if options.json:
        _print_result(result, as_json=True, more={"scored": result.sampled})
        return 0
    _print_result(result)
    print(f"{result.sampled} numbers of a sample under a prompt were added")
    return 0


def _judge(options: argparse.Namespace, _: Sequence[str]) -> int:
    request = judge_options(options)
    _prepare()
    from psplit_eval.beliefs import AUDITS, check_cards
    from psplit_eval.judging import judge_run
    from psplit_eval.stored import judged_report

    for folder in (options.audits, options.run / AUDITS):
        check_cards(folder)  # before anything is paid for
    judged = judge_run(request, _screen())
    if request.dry_run:
        _print(options, {"judges": bill_json(judged)}, bill_text(judged, dry=True))
        return 0
    try:
        result, taken = judged_report(options.run, options.audits, options.allow_missing)
    except PsplitError:  # what was paid for is kept, and said
        _print(options, {"judges": bill_json(judged)}, bill_text(judged, dry=False))
        raise
    if options.json:
        _print_result(result, as_json=True, more={"judges": bill_json(judged)})
        return 0
    print(f"\n{result.judges}\n\n{bill_text(judged, dry=False)}")
    for one, name in zip(judged, options.judge, strict=True):
        if (one.judge, request.rubric.hash) not in taken:
            command = f"psplit-eval audit --judge {name} --rubric {options.rubric}"
            print(f"{one.judge} is not audited as it was asked here: {command}")
    print(f"\nreport: {options.run / 'report.html'}")
    return 0


def _audit(options: argparse.Namespace, _: Sequence[str]) -> int:
    request = audit_options(options)
    _prepare()
    from psplit_eval.audit import audit

    found = audit(request, _screen())
    print(
        json.dumps(audit_json(found), indent=1)
        if options.json
        else audit_text(found, options.dry_run)
    )
    return 0


def _calibrate(options: argparse.Namespace, _: Sequence[str]) -> int:
    to_draw = calibrate_draw(options)
    _prepare()
    from psplit_eval.comparison import Design
    from psplit_eval.labelling import draw_labels, take_labels
    from psplit_eval.rubrics import find_rubric
    from psplit_eval.stored import report_run

    if to_draw:
        drawn = draw_labels(to_draw)
        text = drawn_text(to_draw, drawn, options.rubric)
        _print(options, drawn_json(to_draw, drawn), text)
        return 0
    taken = take_labels(options.run, find_rubric(options.rubric), options.labels)
    result = report_run(options.run, Design(allow_missing=options.allow_missing))
    if options.json:
        _print_result(result, as_json=True, more=vars(taken))
        return 0
    print(f"{result.calibrated}\n\n{taken_text(taken)}")
    print(f"\nreport: {options.run / 'report.html'}")
    return 0


def _score(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.stored import score_run

    include = [Path(folder) for folder in options.include_path]
    models = yardsticks(options)
    result = score_run(options.run, options.allow_missing, include, models, _screen().say)
    _print_result(result, options.json)
    return 0


def _report(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.stored import report_run

    result = report_run(options.run, design(options), margins(options), options.baseline)
    _print_result(result, options.json)
    return 0


def _merge(options: argparse.Namespace, given: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.merging import merge_shards

    result = merge_shards(
        options.shards,
        options.out,
        [Path(folder) for folder in options.include_path],
        options.allow_missing,
        ["psplit-eval", *given],
    )
    _print_result(result, options.json)
    return 0


def _compare(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.stored import compare_runs

    found = compare_runs(
        (options.run_a, options.run_b),
        names_in("--modes", options.modes),
        allowed_differences(options),
        options.out,
        design(options),
    )
    if options.json:
        content = {
            "verdict": found.verdict,
            "comparisons": [comparison.to_dict() for comparison in found.comparisons],
            "differences": [dict(zip(("what", "a", "b"), row, strict=True)) for row in found.facts],
        }
        print(json.dumps(content, indent=1))
        return 0
    print(f"{found.summary}\n\n{found.verdict}")
    if options.out:
        print(f"\nreport: {options.out / 'report.html'}")
    return 0


def _board(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.board_pages import board_text, check_board_folder, write_board
    from psplit_eval.entrants import read_entrants
    from psplit_eval.published import published
    from psplit_eval.ranking import make_board

    models = published_models(options.published, list({row.model: None for row in published()}))
    if options.out:
        check_board_folder(options.out)
    entrants = read_entrants(options.runs)
    board = make_board(entrants, models, options.strict, options.allow_missing)
    if options.out:
        write_board(board, options.out)
    _print(options, board.to_dict(), board_text(board))
    if options.out and not options.json:
        print(f"\nleaderboard: {options.out / 'leaderboard.html'}")
    return 0


def _gate(options: argparse.Namespace, _: Sequence[str]) -> int:
    check_sequential(options)
    _prepare()
    request = None
    if options.sequential:
        words = ["run", *options.run, "--out", str(options.candidate)]
        request = run_options(command_parser().parse_args(words), words)
    found, content, text = decided(options, request, _screen())
    _print(options, content, text)
    return 0 if options.explain else found.exit_code


def _plan(options: argparse.Namespace, _: Sequence[str]) -> int:
    request = plan_options(options)
    _prepare()
    from psplit_eval.planning import plan

    found = plan(request)
    print(plan_json(found) if options.json else plan_text(found))
    return 0


def _import(options: argparse.Namespace, given: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.stored import import_run

    result = import_run(
        options.logs,
        options.out,
        [Path(folder) for folder in options.include_path],
        options.allow_missing,
        ["psplit-eval", *given],
    )
    _print_result(result, options.json)
    return 0


def _view(options: argparse.Namespace, _: Sequence[str]) -> int:
    from psplit_eval.viewing import Viewer

    viewer = Viewer(options.run, options.port)
    print(f"{options.run} is at {viewer.address}")
    print(
        "Only this machine can reach it, and only with this address. Ctrl-C stops it.", flush=True
    )
    viewer.serve()
    print("\nstopped")
    return 0


def _print_result(
    result: RunResult, as_json: bool = False, more: Mapping[str, Any] | None = None
) -> None:
    for note in result.notes:
        print(f"psplit-eval: {note}", file=sys.stderr)
    if as_json:
        content = result.results.to_dict() if result.results else {}
        content |= {"run": str(result.folder), "verdict": result.verdict, **(more or {})}
        print(json.dumps(content))
        return
    print(f"\n{result.summary}\n\n{result.verdict}\n")
    if result.results:
        print(f"report: {result.folder / 'report.html'}")


def _prepare() -> None:
    """Before the first heavy import.

    Threads that spin while they wait make decoding ten times slower beside a busy neighbour.
    Libraries warn of things that psplit checks itself.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _tasks(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.catalog import Catalog
    from psplit_eval.harness import task_summary
    from psplit_eval.suites import SUITES

    catalog = Catalog([Path(folder) for folder in options.include_path])
    if options.pattern:
        return _matching_tasks(catalog.matching(options.pattern), options)
    tasks = {name: task_summary(source) for name, source in catalog.tasks.items()}
    if options.json:
        suites = {suite.name: list(suite.tasks) for suite in SUITES.values()}
        content = {"tasks": tasks, "groups": catalog.groups, "suites": suites}
        print(json.dumps(content, indent=1))
        return 0
    print(f"{'task':20} {'kind':10} {'docs':>5} {'samples':>7}  about")
    for name, task in tasks.items():
        docs = "hub" if task["rows"] is None else task["rows"]
        print(f"{name:20} {task['kind']:10} {docs:>5} {task['samples']:>7}  {task['title']}")
        print(f"{'':46}source: {task['source']}")
    print(f"\n{'group':20} tasks")
    for group, members in catalog.groups.items():
        print(f"{group:20} {', '.join(members)}{_pool_note(catalog.is_pool(group))}")
    print(f"\n{'suite':20} tasks")
    for suite in SUITES.values():
        print(f"{suite.name:20} {', '.join(suite.tasks)}\n{'':20} {suite.about}")
    print("\nlm-eval's own tasks can be named, too: psplit-eval tasks 'gsm8k*' finds them.")
    return 0


def _pool_note(pooled: bool) -> str:
    return " (also reported as one)" if pooled else ""


def _matching_tasks(found: Mapping[str, str], options: argparse.Namespace) -> int:
    if not found:
        raise UsageError(
            f"task pattern {options.pattern!r}: no task, group or tag of this name; * and ? stand "
            "for other characters"
        )
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name:40} {kind}" for name, kind in found.items()))
    return 0


def _runs_list(options: argparse.Namespace, _: Sequence[str]) -> int:
    from psplit_eval.inventory import find_runs, runs_text

    runs = find_runs(options.root)
    _print(options, {"runs": [run.to_dict() for run in runs]}, runs_text(runs, options.root))
    return 0


def _runs_describe(options: argparse.Namespace, _: Sequence[str]) -> int:
    from psplit_eval.inventory import describe_run, description_text

    found = describe_run(options.run)
    _print(options, found, description_text(found))
    return 0


def _runs_prune(options: argparse.Namespace, _: Sequence[str]) -> int:
    from psplit_eval.inventory import prune_runs, pruned_text

    pruned = prune_runs(options.root, options.older_than, options.yes)
    content = {"deleted": options.yes, "runs": [item.to_dict() for item in pruned]}
    _print(options, content, pruned_text(pruned, options.root))
    failed = any(item.outcome == "failed" for item in pruned)
    return InfrastructureError.exit_code if failed else 0


def _export(options: argparse.Namespace, _: Sequence[str]) -> int:
    from psplit_eval.export import export_run

    made = export_run(options.run, options.out, options.what, options.force)
    text = f"{made.file}: {made.rows} {made.what}, {len(made.columns)} columns"
    _print(options, made.to_dict(), text)
    return 0


def _doctor(options: argparse.Namespace, _: Sequence[str]) -> int:
    _prepare()
    from psplit_eval.doctor import examine

    findings = []
    for finding in examine(options.base_url):
        findings.append(finding)
        if not options.json:
            fix = f"; {finding.fix}" if finding.fix else ""
            print(f"{finding.state:8} {finding.subject:15} {finding.text}{fix}", flush=True)
    if options.json:
        print(json.dumps({"findings": [finding.to_dict() for finding in findings]}, indent=1))
    problem = any(finding.state == "problem" for finding in findings)
    return InfrastructureError.exit_code if problem else 0


def _completion(options: argparse.Namespace, _: Sequence[str]) -> int:
    import shtab

    parser = command_parser()
    kinds = {
        "FILE": shtab.FILE,
        "DIR": shtab.DIRECTORY,
        "RUN": shtab.DIRECTORY,
        "SHARD": shtab.DIRECTORY,
        "[NAME=]RUN": shtab.DIRECTORY,
    }
    kinds |= {"ROOT": shtab.DIRECTORY, "out": shtab.DIRECTORY, "model": shtab.DIRECTORY}
    for action in _actions(parser):
        kind = kinds.get(str(action.metavar or action.dest))
        if kind is not None:
            action.complete = kind  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Options and arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _print(options: argparse.Namespace, content: Mapping[str, Any], text: str) -> None:
    print(json.dumps(content, indent=1) if options.json else text)


def _screen() -> Any:
    from psplit_eval.backends import Watch
    from psplit_eval.run import Screen

    class Terminal(Screen):
        """Steps and a progress bar on standard error."""

        def say(self, text: str) -> None:
            print(f"psplit-eval: {text}", file=sys.stderr, flush=True)

        @contextmanager
        def sampling(self, total: int, done: int) -> Iterator[Watch]:
            if done:
                self.say(f"{done} samples are there already, {total} to draw")
            with _bar(total, "sampling", "samples") as watch:
                yield watch

        @contextmanager
        def scoring(self, total: int) -> Iterator[Watch]:
            with _bar(total, "scoring", "tokens") as watch:
                yield watch

        @contextmanager
        def judging(self, total: int) -> Iterator[Callable[[int], None]]:
            with _bar(total, "judging", "questions") as watch:
                yield lambda questions: watch(0, questions)

    return Terminal()


@contextmanager
def _bar(total: int, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that counts samples or tokens, and says how fast tokens go."""
    from tqdm import tqdm

    tokens, started = 0, time.monotonic()
    form = f"{{l_bar}}{{bar}}| {{n}}/{{total}} {unit}, {{elapsed}}, {{remaining}} left{{postfix}}"
    with tqdm(total=total, desc=what, bar_format=form, mininterval=0.5) as shown:

        def watch(new_tokens: int, samples: int) -> None:
            nonlocal tokens
            tokens += new_tokens
            rate = tokens / max(time.monotonic() - started, 1e-9)
            if tokens:
                shown.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
            shown.update(new_tokens if unit == "tokens" else samples)

        yield watch


if __name__ == "__main__":
    sys.exit(main())
