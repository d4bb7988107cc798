"""A board as files and on a terminal: CSV, Markdown, HTML and JSON."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill

from psplit_eval.arms import Value
from psplit_eval.board import AVERAGE, Board, BoardRow, Cell, Column, PublishedRow, Section
from psplit_eval.board_plots import draw_board
from psplit_eval.figures import Plot
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.leaderboard import COLUMNS, csv_line, csv_number, csv_text
from psplit_eval.pages import render
from psplit_eval.published import SOURCE
from psplit_eval.stored import check_own
from psplit_eval.text import columns, one_line, shortened_inside

__all__ = [
    "BOARD_COLUMNS",
    "BOARD_FILES",
    "board_csv",
    "board_text",
    "check_board_folder",
    "write_board",
]

BOARD_COLUMNS = (*COLUMNS, "setting", "source", "rank_low", "rank_high", "n_ranked", "note")
"""Of leaderboard.csv: those of a run's, and what a board adds."""

BOARD_FILES = (
    *("leaderboard.csv", "leaderboard.md", "leaderboard.html", "leaderboard.json"),
    "plots",
)
"""What `write_board` makes in its folder."""
_DRAWN = re.compile(r"(accuracy_entropy|frontier|forest_.+)\.(png|svg|csv)")
"""Files of `draw_board`."""

_TITLES = {
    Section.ACCURACY: "Accuracy",
    Section.ENTROPY: "Entropy",
    Section.OTHER: "Other tasks",
    Section.CREATIVE: "Creative tasks",
}
_RANKS = (
    "After # the ranks that the data allow: 1 is the best, 1–3 is a tie. All ranks of a column "
    "hold together with a probability of 95 % or more (tests paired by doc, Holm-corrected over "
    "all pairs of the column)."
)
_NOTES = {
    Section.ACCURACY: "Per cent right [95 % interval over docs]. Average: the plain mean of "
    f"MATH-500, AIME (pooled), GPQA-Diamond and MMLU-Pro, for rows that have all four. {_RANKS}",
    Section.ENTROPY: "Bits a token [95 % interval over docs], pooled: all bits over all tokens. "
    "Neither side is better, so there are no ranks.",
    Section.OTHER: "The metric that decides the task, which is no share of right answers [95 % "
    f"interval over docs]; fractions times 100. {_RANKS}",
    Section.CREATIVE: "The metric that decides the task, and quality; fractions times 100 [95 % "
    f"interval over docs]. {_RANKS}",
}
_NAME = 80
"""So many letters of a row's name are shown in tables; files for machines have all."""
_THEIRS = f"Published figures, not measured here ({SOURCE})"
_THEIRS_NOTE = (
    "As printed there. Other prompts, engines and graders were at work: read them as a scale, not "
    "as rivals. No ranks, no intervals."
)


@dataclass(frozen=True)
class _Text:
    """What stands in a cell: a value, its limits, its ranks, and the numbers of its footnotes."""

    text: str
    limits: str = ""
    ranks: str = ""
    marks: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = (self.text, self.limits, self.ranks, *(f"†{mark}" for mark in self.marks))
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class _Sheet:
    """One table; `theirs` are published rows, in the same columns."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[_Text, ...], ...]
    theirs: tuple[tuple[_Text, ...], ...] = ()

    @property
    def their_table(self) -> list[tuple[_Text, ...]]:
        """Header and published rows without columns that are empty."""
        full = [i for i in range(len(self.header)) if any(row[i].text for row in self.theirs)]
        lines = [tuple(map(_Text, self.header)), *self.theirs]
        return [tuple(line[i] for i in full) for line in lines]


class _Footnotes:
    """Texts, numbered as they come; equal ones once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def marks(self, notes: Sequence[str]) -> tuple[int, ...]:
        self.texts += [note for note in dict.fromkeys(notes) if note not in self.texts]
        return tuple(self.texts.index(note) + 1 for note in notes)


def write_board(board: Board, out: Path) -> list[Plot]:
    """Write BOARD_FILES into a folder of their own; an earlier board there is replaced.

    Of its pictures only those are deleted that `draw_board` names so. Raises UsageError as
    `check_board_folder`, InfrastructureError when the disk is full.
    """
    check_board_folder(out)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "leaderboard.json", board.to_dict())  # first: it marks the folder as a board's
    with disk_errors(out):
        (out / "plots").mkdir(exist_ok=True)
        for stale in (out / "plots").iterdir():
            if _DRAWN.fullmatch(stale.name):
                stale.unlink()
    plots = draw_board(board, out / "plots")
    write_text(out / "leaderboard.csv", board_csv(board))
    write_text(out / "leaderboard.md", _markdown(board, plots))
    write_text(out / "leaderboard.html", _html(board, plots))
    return plots


def check_board_folder(out: Path) -> None:
    """Raise UsageError for a folder that holds anything but BOARD_FILES.

    A folder `plots` is an earlier board's only where its leaderboard.json lies beside it.
    """
    earlier = (out / "leaderboard.json").is_file()
    check_own(out, [name for name in BOARD_FILES if earlier or name != "plots"])


def board_csv(board: Board) -> str:
    """The text of leaderboard.csv: a line a row, task and metric, shown or not; then published.

    Fractions and bits; undefined is an empty cell. `rank_low` and `rank_high` are empty where a row
    is not ranked; `note` says why, why a value is undefined, and of how few docs it is.
    """
    lines = [line for row in board.rows for line in _csv_lines(row)]
    lines += [line for row in board.published for line in _published_lines(row)]
    return csv_text(BOARD_COLUMNS, lines)


def _csv_lines(row: BoardRow) -> Iterator[list[str]]:
    entrant = row.entrant
    cells = dict(row.cells)
    shown = [
        cells.pop((value.task, value.metric), Cell(value, remarks=_subset(row, value)))
        for value in row.values
    ]
    for cell in [*shown, *cells.values()]:
        ranks = cell.ranks
        places = [str(ranks.low), str(ranks.high), str(ranks.rows)] if ranks else ["", "", ""]
        value = replace(cell.value, mode=entrant.mode)
        note = "; ".join([*cell.notes, *cell.remarks, *row.notes])
        yield [*csv_line(entrant.model, value), entrant.setting, "run", *places, note]


def _subset(row: BoardRow, value: Value) -> tuple[str, ...]:
    return (row.subsets[value.task],) if value.task in row.subsets else ()


def _published_lines(row: PublishedRow) -> Iterator[list[str]]:
    for (task, metric), number in row.values.items():
        entropy = metric.startswith("entropy")
        better = "" if entropy else "true"
        named = [f"{row.model}, {row.method}", row.mode, task, metric, csv_number(number)]
        rest = ["", "", "", "", "bits" if entropy else "fraction", better, "", "published"]
        yield [*named, *rest, "", "", "", f"as printed in {SOURCE}"]


def board_text(board: Board) -> str:
    """The tables for a terminal, their footnotes, and who may be the best."""
    notes = _Footnotes()
    parts = [text for sheet in _sheets(board, notes) for text in _terminal_tables(sheet)]
    if notes.texts:
        parts.append("\n".join(f"†{n} {one_line(t)}" for n, t in enumerate(notes.texts, 1)))
    leaders = [one_line(f"{where}: {text}") for where, text in _leaders(board)]
    return "\n\n".join([*parts, *(["\n".join(leaders)] if leaders else [])])


def _terminal_tables(sheet: _Sheet) -> Iterator[str]:
    start = f"{sheet.title}\n{fill(sheet.note, 100)}"
    if sheet.rows:
        lines = [sheet.header, *(tuple(map(str, row)) for row in sheet.rows)]
        yield "\n".join([start, "", *columns(lines)])
        start = sheet.title
    if sheet.theirs:
        lines = [tuple(map(str, row)) for row in sheet.their_table]
        yield "\n".join([start, fill(f"{_THEIRS}. {_THEIRS_NOTE}", 100), "", *columns(lines)])


def _sheets(board: Board, notes: _Footnotes) -> list[_Sheet]:
    names = {
        row.entrant.name: _Text(
            shortened_inside(row.entrant.name, _NAME), marks=notes.marks(row.notes)
        )
        for row in board.rows
    }
    found = [_sheet(board, section, notes, names) for section in _TITLES]
    return [
        *(sheet for sheet in found if sheet.rows),
        _counts(board, names),
        *_judged(board.published),
    ]


def _sheet(board: Board, section: str, notes: _Footnotes, names: dict[str, _Text]) -> _Sheet:
    """Rows that have something to say in the section."""
    own = board.in_section(section)
    rows = [
        (names[row.entrant.name], *(_cell(row.cells.get(column.key), notes) for column in own))
        for row in board.rows
        if any(column.key in row.cells for column in own)
    ]
    theirs = [
        (_Text(row.name), *(_their_cell(row.values.get(c.key), c) for c in own))
        for row in board.published
        if any(column.key in row.values for column in own)
    ]
    header = ("checkpoint, mode", *(_heading(column, section) for column in own))
    return _Sheet(_TITLES[section], _NOTES[section], header, tuple(rows), tuple(theirs))


def _heading(column: Column, section: str) -> str:
    usual = {Section.ACCURACY: "accuracy_avg", Section.ENTROPY: "entropy_bits"}.get(section)
    better = " (lower is better)" if column.info.higher_is_better is False else ""
    return column.title if column.metric == usual else f"{column.title}: {column.metric}{better}"


def _cell(cell: Cell | None, notes: _Footnotes) -> _Text:
    if cell is None:
        return _Text("")
    ranks = f"#{cell.ranks}" if cell.ranks else ""
    return _Text(*_value(cell.value), ranks, notes.marks([*cell.notes, *cell.remarks]))


def _value(value: Value) -> tuple[str, str]:
    """The value and its limits."""
    scale, digits = _scale(value.unit)
    centre, low, high = (
        f"{number * scale:.{digits}f}"
        for number in (value.estimate.value, value.estimate.ci_low, value.estimate.ci_high)
    )
    if math.isnan(value.estimate.value):
        return "–", ""
    undefined = math.isnan(value.estimate.ci_low + value.estimate.ci_high)
    return centre, "" if undefined else f"[{low}, {high}]"


def _scale(unit: str) -> tuple[float, int]:
    return (100.0, 1) if unit == "fraction" else (1.0, 3)


def _their_cell(value: float | None, column: Column) -> _Text:
    """As many digits as are printed there."""
    if value is None:
        return _Text("")
    return _Text(f"{value * (100 if column.info.unit == 'fraction' else 1):.2f}")


def _counts(board: Board, names: dict[str, _Text]) -> _Sheet:
    """Docs and samples that stand behind the values."""
    tasks = list(dict.fromkeys(c.task for c in board.columns if c.task != AVERAGE))
    titles = {column.task: column.title for column in board.columns}
    rows = []
    for row in board.rows:
        counts = {value.task: value for value in reversed(row.values)}
        texts = (_count(counts.get(task)) for task in tasks)
        rows.append((names[row.entrant.name], *texts))
    return _Sheet(
        "Docs and samples",
        "Docs, and samples that are there in all.",
        ("checkpoint, mode", *(titles[task] for task in tasks)),
        tuple(rows),
    )


def _count(value: Value | None) -> _Text:
    return _Text(f"{value.estimate.n:,} × {_a_doc(value)}") if value else _Text("")


def _a_doc(value: Value) -> str:
    return f"{value.n_samples / value.estimate.n:.3g}" if value.estimate.n else "0"


def _judged(rows: Sequence[PublishedRow]) -> Iterator[_Sheet]:
    """What a judge of the paper gave; no judge of a run is asked the same."""
    judged = [row for row in rows if row.judged]
    if judged:
        yield _Sheet(
            "Published judge scores of stories",
            "0 to 10 a rubric, by the strictest of three judges, which differ by up to 4 points on "
            "the same stories: absolute scores mean little without an audit of the judge.",
            ("checkpoint, mode", *(name.replace("_", " ") for name in judged[0].judged)),
            (),
            tuple(
                (_Text(row.name), *(_Text(f"{v:.3f}") for v in row.judged.values()))
                for row in judged
            ),
        )


def _title(board: Board) -> str:
    models = len({row.entrant.model for row in board.rows})
    modes = len({row.entrant.mode for row in board.rows})
    return (
        f"Leaderboard: {models} checkpoint{'s' * (models > 1)} in {modes} mode{'s' * (modes > 1)}"
    )


def _leaders(board: Board) -> Iterator[tuple[str, str]]:
    """Of every ranked column which rows may be the best."""
    for column in board.columns:
        cells = [(row.entrant.name, row.cells.get(column.key)) for row in board.rows]
        ranked = [(name, cell.ranks) for name, cell in cells if cell and cell.ranks]
        first = [name for name, ranks in ranked if ranks.low == 1]
        if len(ranked) > 1:
            where = _heading(column, column.section)
            if len(first) == 1:
                yield where, f"{first[0]} is the best of {len(ranked)}"
            elif len(first) == len(ranked):
                yield where, f"any of the {len(ranked)} rows may be the best"
            else:
                yield where, f"{len(first)} of {len(ranked)} may be the best: {'; '.join(first)}"


def _markdown(board: Board, plots: Sequence[Plot]) -> str:
    notes = _Footnotes()
    parts = [f"# {_title(board)}"]
    leaders = [f"- {_escaped(where)}: {_escaped(text)}" for where, text in _leaders(board)]
    parts += ["\n".join(leaders)] if leaders else []
    for sheet in _sheets(board, notes):
        parts += [f"## {sheet.title}", sheet.note, *_markdown_tables(sheet)]
    if notes.texts:
        texts = [f"- †{n} {_escaped(text)}" for n, text in enumerate(notes.texts, 1)]
        parts += ["## Notes", "\n".join(texts)]
    parts += [f"![{_escaped(plot.alt)}](plots/{plot.png.name})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _markdown_tables(sheet: _Sheet) -> Iterator[str]:
    if sheet.rows:
        yield _markdown_table([sheet.header, *sheet.rows])
    if sheet.theirs:
        yield f"**{_THEIRS}.** {_THEIRS_NOTE}"
        yield _markdown_table(sheet.their_table, slant="*")


def _markdown_table(lines: Sequence[Sequence[object]], slant: str = "") -> str:
    """`slant` is put around the cells below the header."""
    header, *rows = [[_escaped(str(cell)) for cell in line] for line in lines]
    rule = ["---", *("---:" for _ in header[1:])]
    slanted = [[f"{slant}{cell}{slant}" if cell else "" for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *slanted))


def _escaped(text: str) -> str:
    """Names may hold markup, which a page of Markdown would take for its own."""
    safe = html.escape(one_line(text), quote=False).replace("](", "]\\(")
    return "".join(f"\\{letter}" if letter in "|`*" else letter for letter in safe)


def _html(board: Board, plots: Sequence[Plot]) -> str:
    notes = _Footnotes()
    sheets = _sheets(board, notes)
    return render(
        "board.html",
        title=_title(board),
        leaders=list(_leaders(board)),
        sheets=sheets,
        notes=notes.texts,
        theirs=_THEIRS,
        theirs_note=_THEIRS_NOTE,
        plots=[plot for plot in plots if not _aside(plot)],
        more_plots=[plot for plot in plots if _aside(plot)],
    )


def _aside(plot: Plot) -> bool:
    """A forest without ranks says what its table says."""
    return plot.name.startswith("forest_") and "_entropy_bits" in plot.name
