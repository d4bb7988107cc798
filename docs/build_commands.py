"""Write docs/reference/commands.md again from the command line's own parsers.

    python docs/build_commands.py

What stands there of a command is what its `--help` says; a test makes the page again and compares.
What stands before the mark was written by hand and stays.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from psplit_eval import cli as evaluating
from psplit_eval import errors
from psplit_train import cli as training

PAGE = Path(__file__).parent / "reference" / "commands.md"
MARK = "<!-- From here on made by docs/build_commands.py. -->"

_NOTES = {
    "run": "[how-to: a model](../howto/bring-a-model.md), [a task](../howto/bring-a-task.md), "
    "[a mode](../howto/bring-a-mode.md)",
    "diverge": "[divergence](../divergence.md)",
    "judge": "[how-to: a judge](../howto/bring-a-judge.md)",
    "audit": "[judges](../judges.md#audit)",
    "calibrate": "[calibration](../judges_calibration.md)",
    "report": "[how-to: read a report](../howto/read-a-report.md)",
    "merge": "[how-to: a cluster](../howto/evaluate-on-a-cluster.md)",
    "compare": "[how-to: compare checkpoints](../howto/compare-checkpoints.md)",
    "plan": "[planning](../statistics.md#planning)",
    "leaderboard": "[the leaderboard](../leaderboard.md)",
    "view": "[how-to: look at a run](../howto/look-at-a-run.md)",
    "import": "[logs of lm_eval](files.md#logs-of-lm_eval)",
    "export": "[export formats](files.md#exports)",
    "runs": "[how-to: a cluster](../howto/evaluate-on-a-cluster.md)",
    "psplit-train run": "[training](../training.md), [every setting](training.md)",
    "psplit-train sweep": "[how-to: sweep](../howto/sweep.md)",
    "psplit-train tasks": "[generated tasks](../training.md#data)",
}
"""Where a command is explained."""

Parser = argparse.ArgumentParser


def page() -> str:
    """The page's whole text: the part written by hand as it is, and all that is made."""
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0].rstrip()
    parts = [by_hand, MARK, "## Exit codes", _exit_codes()]
    parts += _program("psplit-eval", evaluating.command_parser(), titled="")
    parts += _program("psplit-train", training.command_parser(), titled="psplit-train ")
    return "\n\n".join(parts) + "\n"


def _program(program: str, whole: Parser, titled: str) -> Iterator[str]:
    """Every command of a program; `titled`: what its headings have before the command's name."""
    for name, about, parser in _commands(whole):
        yield f"## `{titled}{name}`"
        yield _first_line(f"{program} {name}", _NOTES.get(f"{titled}{name}"), about, parser)
        actions = list(_commands(parser))
        yield from () if actions else _options(parser)
        for action, what, one in actions:
            yield f"### `{titled}{name} {action}`"
            yield _first_line(f"{program} {name} {action}", None, what, one)
            yield from _options(one)


def _exit_codes() -> str:
    """The tree of errors is the one place that knows them."""
    tree = inspect.getdoc(errors) or ""
    lines = ["| code | what |", "|---|---|", "| 0 | done; `gate`: pass |"]
    codes = {"1": ["`gate`: a rule failed"], "3": ["`gate`: inconclusive"]}
    for code, what in re.findall(r"Error +(\d)   (.*)", tree):
        codes.setdefault(code, []).append(what)
    lines += [f"| {code} | {'; '.join(whats)} |" for code, whats in sorted(codes.items())]
    lines += ["| 130 | interrupted (Ctrl-C): what was done is kept, the same command goes on |"]
    return "\n".join([*lines, "| 141 | whoever read the output has closed it |"])


def _commands(parser: Parser) -> Iterator[tuple[str, str, Parser]]:
    """Name, one line and parser of every command of a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, one in action.choices.items():
                yield name, about.get(name, ""), one


def _first_line(command: str, note: str | None, about: str, parser: Parser) -> str:
    needed = [_usage(action) for action in parser._actions if _is_needed(action)]
    usage = " ".join([command, *needed])
    more = f"\n\n{_text(parser.description)}" if parser.description else ""
    where = f" See {note}." if note else ""
    return f"{_sentence(about)}.{where}{more}\n\n```text\n{usage}\n```"


def _sentence(text: str) -> str:
    """With a capital letter, but for names such as vLLM."""
    first = text.split(" ")[0]
    return text if first != first.lower() else f"{text[:1].upper()}{text[1:]}"


def _is_needed(action: argparse.Action) -> bool:
    subcommands = isinstance(action, argparse._SubParsersAction)
    return not subcommands and (action.required or not action.option_strings)


def _usage(action: argparse.Action) -> str:
    word = _words(action)
    if action.option_strings:
        return f"{action.option_strings[-1]} {word}"
    if action.nargs == "*":
        return f"[{word} ...]"
    if action.nargs == "+":
        return f"{word} [{word} ...]"
    return f"[{word}]" if action.nargs == "?" else word


def _words(action: argparse.Action) -> str:
    """What stands for the option's value; '' where it has none."""
    if action.nargs == 0:
        return ""
    if action.metavar:
        return str(action.metavar)
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _options(parser: Parser) -> Iterator[str]:
    """A table of all that has no group of its own, and one a group, in the order of `--help`."""
    tables: dict[str, list[str]] = {}
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if action.dest != "help"]
        title = "" if group.title in ("options", "positional arguments") else group.title or ""
        tables.setdefault(title, []).extend(rows)
    for title, rows in tables.items():
        if rows:
            heading = f"*{_sentence(title)}*\n\n" if title else ""
            yield f"{heading}| option | what |\n|---|---|\n" + "\n".join(rows)


def _row(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or _words(action)
    value = _words(action) if action.option_strings else ""
    shown = f"`{names} {value}`".replace(" `", "`").replace("|", "\\|")
    marks = [mark for mark in (_required(action), _repeated(action)) if mark]
    note = f" ({', '.join(marks)})" if marks else ""
    return f"| {shown} | {_text(action.help)}{note} |"


def _required(action: argparse.Action) -> str:
    return "required" if action.required and action.option_strings else ""


def _repeated(action: argparse.Action) -> str:
    return "repeatable" if isinstance(action, argparse._AppendAction) else ""


def _text(text: str | None) -> str:
    """Help as it is shown: argparse doubles the sign of per cent."""
    shown = (text or "").replace("%%", "%").replace("|", "\\|")
    return shown.replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
