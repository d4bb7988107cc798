"""A report as data, and its two forms: one page of HTML, and Markdown.

Model text and names are escaped in both; how a table or a plot looks is decided here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from psplit_eval.excerpts import SELECTION, Excerpt, Said
from psplit_eval.figures import Plot
from psplit_eval.pages import render, shown
from psplit_eval.tables import Table
from psplit_eval.text import cut, markdown_text, visible
from psplit_eval.verdicts import Answer
from psplit_eval.worddiff import marked_differences

__all__ = ["Document", "Section", "to_html", "to_markdown"]

_ROWS, _CHARACTERS, _EVIDENCE = 30, 400, 1_000
"""Of a table, of a sample's text and of an answer, in Markdown: a pull request takes 65 536
characters, and few runs have more."""


@dataclass(frozen=True)
class Section:
    """A part of a report. `said`: what is found, a sentence each; `details`: tables that a page
    folds away."""

    title: str
    said: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    details: Sequence[Table] = ()

    @property
    def anchor(self) -> str:
        """Its name inside a page."""
        return "-".join(self.title.lower().split())

    @property
    def empty(self) -> bool:
        return not (self.said or self.tables or self.plots or self.details)


@dataclass(frozen=True)
class Document:
    """A report: `about` says what was measured, a fact each; `found` stands with the verdict,
    `details` at the end."""

    title: str
    verdict: str
    about: Sequence[str] = ()
    answers: Sequence[Answer] = ()
    found: Sequence[Table] = ()
    sections: Sequence[Section] = ()
    excerpts: Sequence[Excerpt] = ()
    details: Sequence[Table] = ()


def to_html(document: Document) -> str:
    """One page that needs nothing else."""
    return render(
        "report.html",
        document=document,
        sections=[section for section in document.sections if not section.empty],
        selection=SELECTION,
        beside=_beside,
        most=max((len(excerpt.said) for excerpt in document.excerpts), default=0),
    )


def _beside(said: Sequence[Said]) -> list[tuple[Said, Markup]]:
    """Every mode's text; the first one's words are held against the second's, all others' against
    the first's."""
    if len(said) < 2:
        return [(one, shown(one.text)) for one in said]
    first, *others = said
    pairs = [marked_differences(first.text, other.text) for other in others]
    return [(first, pairs[0][0]), *zip(others, (marked for _, marked in pairs), strict=True)]


def to_markdown(document: Document, plots: str = "plots", whole: str = "report.html") -> str:
    """For terminals, pull requests and job summaries; `plots`: the folder of its pictures.

    Long tables and texts are cut, which they say; the file `whole` has all.
    """
    return "\n\n".join(_paragraphs(document, plots, whole)) + "\n"


def _paragraphs(document: Document, plots: str, whole: str) -> Iterator[str]:
    yield f"# {_cell(document.title)}"
    if document.about:
        yield " · ".join(map(_cell, document.about))
    yield f"**{_cell(document.verdict)}**"
    if document.answers:
        yield "\n".join(map(_answer, document.answers))
    yield from _tables(document.found, whole)
    for section in (section for section in document.sections if not section.empty):
        yield f"## {_cell(section.title)}"
        if section.said:
            yield "\n".join(f"- {_cell(sentence)}" for sentence in section.said)
        yield from _tables(section.tables, whole)
        yield from (
            f"![{_cell(p.alt)}]({plots}/{p.png.name})\n\n{_cell(p.caption)}" for p in section.plots
        )
        yield from _tables(section.details, whole)
    if document.excerpts:
        yield "## Samples"
        yield SELECTION
        for excerpt in document.excerpts:
            yield from _excerpt(excerpt)
    if document.details:
        yield "## Details"
        yield from _tables(document.details, whole)


def _answer(answer: Answer) -> str:
    evidence = _cell(cut(answer.evidence, _EVIDENCE))
    return f"- {_cell(answer.asked)}: **{answer.verdict.value}**. {evidence}."


def _tables(tables: Sequence[Table], whole: str) -> Iterator[str]:
    for table in tables:
        yield f"### {_cell(table.title)}"
        yield _cell(table.note)
        lines = [table.header, tuple("---" for _ in table.header), *table.rows[:_ROWS]]
        yield "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        if len(table.rows) > _ROWS:
            yield f"{len(table.rows) - _ROWS:,} more rows are in {whole}."


def _excerpt(excerpt: Excerpt) -> Iterator[str]:
    target = f", answer {_inline(excerpt.target)}" if excerpt.target else ""
    yield f"### {_cell(excerpt.task)}, doc {excerpt.doc_id}{target}"
    for said in excerpt.said:
        about = f" ({said.about})" if said.about else ""
        yield f"{_cell(said.mode)}{about}:"
        yield _fenced(visible(cut(said.text, _CHARACTERS)))


def _cell(text: str) -> str:
    """Names may hold markup, which a page of Markdown would take for its own."""
    return markdown_text(visible(text))


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _inline(text: str) -> str:
    return "`" + " ".join(visible(text).replace("`", "'").split()) + "`"
