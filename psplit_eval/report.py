"""What a run leaves for people and tools: leaderboard, comparison, plots, report.md, report.html;
and what a comparison of two runs leaves.

All of it is made again from the store and the manifest. The two reports show the same sections;
model text is escaped wherever it is shown.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import jinja2

from psplit_eval.arms import Arm, arm_values
from psplit_eval.behaviour import Behaviour, Compared, read_behaviour, reference_mode
from psplit_eval.behaviour_plots import draw_behaviour
from psplit_eval.behaviour_tables import behaviour_tables
from psplit_eval.beliefs import AUDITS, beliefs, fitting_cards
from psplit_eval.cards import Card
from psplit_eval.comparison import Comparison, compare_modes
from psplit_eval.conclusions import verdict
from psplit_eval.figures import Plot
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.hearing import read_judged
from psplit_eval.judge_tables import calibrated_table, judge_tables
from psplit_eval.judged import JudgedRun
from psplit_eval.labels import kept_labels
from psplit_eval.leaderboard import leaderboard_csv
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.plots import draw
from psplit_eval.store import Store
from psplit_eval.tables import Table, family_tables, run_tables
from psplit_eval.text import columns

__all__ = ["COMPARISON_FILES", "Written", "write_comparison", "write_report"]

COMPARISON_FILES = ("comparison.json", "report.md", "report.html")
"""What `write_comparison` writes."""

_SHOWN_DOCS = 2
_SHOWN_CHARACTERS = 700


@dataclass(frozen=True)
class _Shown:
    """One prompt and one sample of every mode."""

    task: str
    doc_id: int
    target: str
    samples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Written:
    """What a run was found to say; `summary`, `judges` and `calibrated` are tables for a terminal.

    The last is one of `judges`'; `judged` has what they are made of.
    """

    summary: str
    judges: str
    calibrated: str
    judged: JudgedRun
    behaviour: Behaviour
    verdict: str


def write_report(
    folder: Path,
    manifest: Mapping[str, Any],
    store: Store,
    arms: Sequence[Arm],
    compared: Compared | None = None,
) -> Written:
    """Write every result file into the run folder. Raises InfrastructureError for a full disk."""
    compared = compared or Compared()
    design = compared.design
    allow_missing = design.allow_missing
    values = [value for arm in arms for value in arm_values(arm, allow_missing)]
    comparisons = compare_modes(arms, design)
    judged, cards = _judged(folder, manifest, store, allow_missing)
    behaviour = read_behaviour(store, manifest, arms, replace(compared, said=judged.said()))
    conclusion = verdict(comparisons, arms, design, behaviour.answers)
    model = str(manifest["checkpoint"]["name"])
    write_text(folder / "leaderboard.csv", leaderboard_csv(model, values))
    _write_comparisons(folder, comparisons)
    write_json(folder / "divergence.json", behaviour.to_dict())
    if judged.judges:
        write_json(folder / "judgements.json", judged.to_dict())
    with disk_errors(folder / "plots"):
        (folder / "plots").mkdir(exist_ok=True)
        plots = draw(arms, folder / "plots", allow_missing)
        plots += draw_behaviour(behaviour, folder / "plots")
    made = [
        *judge_tables(judged, cards),
        *behaviour_tables(behaviour),
        *run_tables(manifest, arms, values, comparisons),
    ]
    tables = [table for table in made if table.rows]
    shown = list(_shown(store, arms, manifest["tasks"]))
    title = _title(manifest)
    write_text(folder / "report.md", _markdown(title, conclusion, tables, plots, shown))
    write_text(folder / "report.html", _html(title, conclusion, tables, plots, shown))
    return Written(
        summary=_terminal(table for table in tables if table.first),
        judges=_terminal(t for t in judge_tables(judged, cards) if t.rows and not t.prose),
        calibrated=_terminal([calibrated_table(judged)] if judged.calibrated else []),
        judged=judged,
        behaviour=behaviour,
        verdict=conclusion,
    )


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


def write_comparison(
    folder: Path | None,
    title: str,
    conclusion: str,
    facts: Sequence[tuple[str, ...]],
    comparisons: Sequence[Comparison],
) -> str:
    """Two runs compared: comparison.json, report.md and report.html in `folder`, if there is one.

    `facts` has rows of (what differs, run A, run B). Returns the same for a terminal. Raises
    InfrastructureError when the disk is full.
    """
    tables = family_tables(comparisons)
    header = ("what", "run A", "run B")
    tables.append(
        Table(
            "What differs between the runs",
            "As far as the manifests and stores of the two runs say.",
            header,
            tuple(facts),
        )
    )
    if folder is not None:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _write_comparisons(folder, comparisons)
        write_text(folder / "report.md", _markdown(title, conclusion, tables, [], []))
        write_text(folder / "report.html", _html(title, conclusion, tables, [], []))
    return _terminal(table for table in tables if table.rows)


def _write_comparisons(folder: Path, comparisons: Sequence[Comparison]) -> None:
    entries = [comparison.to_dict() for comparison in comparisons]
    write_json(folder / "comparison.json", {"format": 1, "comparisons": entries})


def _shown(store: Store, arms: Sequence[Arm], tasks: Iterable[str]) -> Iterable[_Shown]:
    """The stated selection: the first docs of every task, the first sample of every mode.

    Answers that were only scored say nothing of the model's own words and are not shown.
    """
    for task in tasks:
        docs = [doc for doc, _ in zip(store.docs(task), range(_SHOWN_DOCS), strict=False)]
        first: dict[tuple[int, str], tuple[str, str, str]] = {}
        for mode in [arm.mode for arm in arms if arm.task == task]:
            for sample in store.samples(task, mode, ids=False):
                if sample.doc_id > docs[-1].doc_id:
                    break
                if sample.sample_idx or sample.finish_reason == "scored":
                    continue
                if sample.text is not None:
                    text = _shortened(sample.text)
                    prompt = store.prompt(sample.prompt_hash, mode)
                    asked = _shortened(prompt.text if prompt else "")
                    first[sample.doc_id, mode] = (mode, asked, text)
        for doc in docs:
            samples = tuple(s for (doc_id, _), s in first.items() if doc_id == doc.doc_id)
            if samples:
                yield _Shown(task, doc.doc_id, doc.target, samples)


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]} … ({len(text):,} characters in all)"


def _markdown(
    title: str,
    conclusion: str,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    shown: Sequence[_Shown],
) -> str:
    first, *answers = conclusion.split("\n")
    parts = [f"# {_cell(title)}", f"**{_cell(first)}**"]
    parts += [f"- {_cell(answer)}" for answer in answers]
    for table in (table for table in tables if table.first):
        parts += [f"## {table.title}", table.note, _markdown_table(table)]
    parts += [f"![{plot.alt}](plots/{plot.png.name})" for plot in plots]
    for table in (table for table in tables if not table.first):
        parts += [f"## {table.title}", table.note, _markdown_table(table)]
    if shown:
        parts += ["## Samples", _selection_note()]
    for item in shown:
        target = f", answer {_fenced_inline(item.target)}" if item.target else ""
        parts.append(f"### {item.task}, doc {item.doc_id}{target}")
        for mode, _, text in item.samples:
            parts.append(f"{mode}:\n\n{_fenced(text)}")
    return "\n\n".join(parts) + "\n"


def _title(manifest: Mapping[str, Any]) -> str:
    modes = ", ".join(mode["name"] for mode in manifest["modes"])
    return f"{manifest['checkpoint']['name']} in its modes {modes}"


def _selection_note() -> str:
    return (
        f"Not a random selection: the first {_SHOWN_DOCS} docs of every task, the first sample of "
        f"every mode, at most {_SHOWN_CHARACTERS} characters. samples.sqlite has all."
    )


def _terminal(tables: Iterable[Table]) -> str:
    return "\n\n".join(map(_terminal_table, tables))


def _terminal_table(table: Table) -> str:
    """Title, what it means, and columns."""
    note = fill(table.note, 100)
    return "\n".join([table.title, note, "", *columns([table.header, *table.rows])])


def _markdown_table(table: Table) -> str:
    lines = [table.header, tuple("---" for _ in table.header), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Names may hold markup, which a page of Markdown would take for its own."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").split())


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _fenced_inline(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _html(
    title: str,
    conclusion: str,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    shown: Sequence[_Shown],
) -> str:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(
        title=title,
        verdict=conclusion.split("\n"),
        tables=tables,
        plots=[
            (plot.caption, base64.b64encode(plot.png.read_bytes()).decode("ascii"))
            for plot in plots
        ],
        shown=shown,
        selection=_selection_note(),
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto;
       padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.verdict p { margin: .4rem 0; }
.verdict { border-left: .3rem solid #0072b2; padding: .6rem 1rem; background: #eef5fa; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top; font-variant-numeric: tabular-nums; }
.figures th, .figures td, .prose th, .prose td:not(:last-child) { white-space: nowrap; }
.grey td { color: #6b6b6b; font-style: italic; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .88rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .7rem;
      font-size: .85rem; unicode-bidi: isolate; }
@media print { body { max-width: none; } pre { break-inside: avoid; }
               .figures th, .figures td { white-space: normal; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<div class="verdict">{% for line in verdict %}<p>{{ line }}</p>{% endfor %}</div>
{% macro section(table) %}
<h2>{{ table.title }}</h2>
<p class="note">{{ table.note }}</p>
{% set kind = "prose" if table.prose else "figures" if table.header|length > 3 else "" %}
<div class="scroll"><table class="{{ kind }}">
<thead><tr>{% for cell in table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if loop.index0 in table.grey %} class="grey"{% endif %}>
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
{% for table in tables if table.first %}{{ section(table) }}{% endfor %}
{% for caption, data in plots %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
{% for table in tables if not table.first %}{{ section(table) }}{% endfor %}
{% if shown %}
<h2>Samples</h2>
<p class="note">{{ selection }}</p>
{% endif %}
{% for item in shown %}
<h3>{{ item.task }}, doc {{ item.doc_id }}{% if item.target %}, answer {{ item.target }}{% endif %}
</h3>
{% for mode, prompt, text in item.samples %}
<p>{{ mode }}</p>
<details><summary>prompt</summary><pre dir="auto">{{ prompt }}</pre></details>
<pre dir="auto">{{ text }}</pre>
{% endfor %}
{% endfor %}
</body>
</html>
"""
