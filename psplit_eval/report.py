"""What a run leaves for people and tools: leaderboard, comparison, plots, report.md, report.html;
and what a comparison of two runs leaves.

All of it is made again from the store and the manifest. The two reports show the same sections;
model text is escaped wherever it is shown.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import jinja2

from psplit_eval.comparison import Arm, Comparison, Value, arm_values, compare_modes, verdict
from psplit_eval.files import disk_errors, write_json, write_text
from psplit_eval.leaderboard import leaderboard_csv
from psplit_eval.plots import draw
from psplit_eval.store import Store
from psplit_eval.text import columns

__all__ = ["COMPARISON_FILES", "write_comparison", "write_report"]

COMPARISON_FILES = ("comparison.json", "report.md", "report.html")
"""What `write_comparison` writes."""

_SAME_AS_ANOTHER = ("accuracy_pass_at_1",)  # accuracy_avg, by definition
_BETTER = {True: "higher", False: "lower", None: "–"}
_SHOWN_DOCS = 2
_SHOWN_CHARACTERS = 700
_CAPTIONS = {
    "accuracy": "Mean accuracy of each mode, with 95 % intervals over docs",
    "pass_at_k": "Chance that at least one of k samples is right (unbiased pass@k)",
    "entropy": "Entropy of the model's own next-token distribution, one point a doc",
    "tradeoff": "Difference in meaning (mean cosine distance of embeddings) against quality",
    "diversity": "Diversity among the samples of one doc, with 95 % intervals over docs",
}


@dataclass(frozen=True)
class _Table:
    """A titled table; every cell is text."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first: bool = False
    """Stands before the plots, and on the terminal."""


@dataclass(frozen=True)
class _Shown:
    """One prompt and one sample of every mode."""

    task: str
    doc_id: int
    target: str
    samples: tuple[tuple[str, str, str], ...]


def write_report(
    folder: Path,
    manifest: Mapping[str, Any],
    store: Store,
    arms: Sequence[Arm],
    allow_missing: bool = False,
) -> tuple[str, str]:
    """Write every result file into the run folder; returns (summary for a terminal, verdict).

    Raises InfrastructureError when the disk is full.
    """
    values = [value for arm in arms for value in arm_values(arm, allow_missing)]
    comparisons = compare_modes(arms, allow_missing)
    conclusion = verdict(comparisons, arms)
    model = str(manifest["checkpoint"]["name"])
    write_text(folder / "leaderboard.csv", leaderboard_csv(model, values))
    _write_comparisons(folder, comparisons)
    with disk_errors(folder / "plots"):
        (folder / "plots").mkdir(exist_ok=True)
        plots = [
            path for path in draw(arms, folder / "plots", allow_missing) if path.suffix == ".png"
        ]
    tables = [t for t in _tables(manifest, arms, values, comparisons) if t.rows]
    shown = list(_shown(store, arms, manifest["tasks"]))
    title = _title(manifest)
    write_text(folder / "report.md", _markdown(title, conclusion, tables, plots, shown))
    write_text(folder / "report.html", _html(title, conclusion, tables, plots, shown))
    return "\n\n".join(_terminal_table(table) for table in tables if table.first), conclusion


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
    tables = _family_tables(comparisons)
    header = ("what", "run A", "run B")
    tables.append(
        _Table(
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
    return "\n\n".join(_terminal_table(table) for table in tables if table.rows)


def _write_comparisons(folder: Path, comparisons: Sequence[Comparison]) -> None:
    entries = [comparison.to_dict() for comparison in comparisons]
    write_json(folder / "comparison.json", {"format": 1, "comparisons": entries})


def _tables(
    manifest: Mapping[str, Any],
    arms: Sequence[Arm],
    values: Sequence[Value],
    comparisons: Sequence[Comparison],
) -> list[_Table]:
    short = list(_headline(arms, values))
    tables = [replace(_values_table(short), first=True), *_family_tables(comparisons)]
    if len(short) < len(values):
        tables.append(_values_table(values, "All metrics"))
    return [*tables, _completeness_table(arms), _settings_table(manifest)]


def _headline(arms: Sequence[Arm], values: Sequence[Value]) -> Iterator[Value]:
    """What a short table shows of every task, in the order of its scorer."""
    scorers = {arm.task: arm.scorer for arm in arms}
    for task, of_task in groupby(values, key=attrgetter("task")):
        names = scorers[task].headline
        found = [value for value in of_task if not names or value.metric in names]
        yield from sorted(found, key=lambda v: names.index(v.metric) if names else 0)


def _family_tables(comparisons: Sequence[Comparison]) -> list[_Table]:
    primary = _comparison_table(
        "Primary comparisons",
        "One metric a task and pair; p two-sided, Holm-corrected over this table.",
        [c for c in comparisons if c.primary],
    )
    return [
        replace(primary, first=True),
        _comparison_table(
            "Exploratory comparisons",
            "All other metrics; p Benjamini-Hochberg-corrected over this table. Read these as "
            "leads, not as claims.",
            [c for c in comparisons if not c.primary],
        ),
    ]


def _values_table(values: Sequence[Value], title: str = "Results by mode") -> _Table:
    modes = list(dict.fromkeys(value.mode for value in values))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for value in values:
        if value.metric not in _SAME_AS_ANOTHER:
            rows.setdefault((value.task, value.metric), {})[value.mode] = _estimate(value)
    better = {(v.task, v.metric): _BETTER[v.higher_is_better] for v in values}
    estimate = ""
    if any(metric == "entropy_bits_estimate" for _, metric in rows):
        estimate = "; the estimate is a lower bound: all but the most probable tokens count as one"
    return _Table(
        title,
        "Value [95 % interval over docs]. Fractions are shown times 100; entropy_bits is bits a "
        f"token, pooled: all bits over all tokens{estimate}.",
        ("task", "metric", "better", *modes),
        tuple(
            (*key, better[key], *(cells.get(mode, "") for mode in modes))
            for key, cells in rows.items()
        ),
    )


def _estimate(value: Value) -> str:
    scale, digits = _scale(value.unit)
    estimate = value.estimate
    text = _number(estimate.value, scale, digits)
    if math.isnan(estimate.ci_low):
        return text
    low, high = (_number(x, scale, digits) for x in (estimate.ci_low, estimate.ci_high))
    return f"{text} [{low}, {high}]"


def _scale(unit: str) -> tuple[float, int]:
    return (100.0, 1) if unit == "fraction" else (1.0, 1 if unit == "tokens" else 3)


def _number(value: float, scale: float = 1.0, digits: int = 3, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    return f"{value * scale:{'+' if sign else ''}.{digits}f}"


def _comparison_table(title: str, note: str, comparisons: Iterable[Comparison]) -> _Table:
    rows = []
    for c in comparisons:
        scale, digits = _scale(c.unit)
        gap, low, high = (
            _number(x, scale, digits, sign=True)
            for x in (c.result.difference, c.result.ci_low, c.result.ci_high)
        )
        rows.append(
            (
                c.task,
                c.metric,
                f"{c.arm_b} − {c.arm_a}",
                " − ".join(_number(x, scale, digits) for x in (c.result.value_b, c.result.value_a)),
                f"{gap} [{low}, {high}]",
                _number(c.p_adjusted),
                _number(c.result.effect_size, digits=2, sign=True),
                str(c.result.n),
                c.verdict,
            )
        )
    return _Table(
        title,
        note
        + " Paired by doc, Student's t on per-doc differences (entropy: of linearised ratios); "
        "d_z is the effect size.",
        (
            "task",
            "metric",
            "difference of",
            "values",
            "difference [95 %]",
            "p adj.",
            "d_z",
            "docs",
            "verdict",
        ),
        tuple(rows),
    )


def _completeness_table(arms: Sequence[Arm]) -> _Table:
    rows = []
    for arm in arms:
        bounds = arm.accuracy_bounds
        rows.append(
            (
                arm.task,
                arm.mode,
                str(arm.planned),
                str(arm.missing),
                "not known" if arm.truncated is None else str(arm.truncated),
                "–" if bounds is None else f"{bounds[0] * 100:.1f} to {bounds[1] * 100:.1f}",
            )
        )
    return _Table(
        "Missing and truncated samples",
        "Missing: not drawn yet, or could not be had; the same command goes on. Truncated: cut at "
        "the token limit; a psplit task counts such an answer as wrong. Bounds: accuracy (times "
        "100) if all missing were wrong; right.",
        ("task", "mode", "samples", "missing", "truncated", "accuracy bounds"),
        tuple(rows),
    )


def _settings_table(manifest: Mapping[str, Any]) -> _Table:
    model, machine = manifest["model"], manifest["machine"]
    rows = [("checkpoint", str(manifest["checkpoint"]["name"])), *_origin(manifest, model)]
    for mode in manifest["modes"]:
        rows.append((f"mode {mode['name']}", mode["system_prompt"] or _no_prompt(model)))
    for name, task in manifest["tasks"].items():
        sampling = ", ".join(f"{k} {v!r}" for k, v in task["sampling"].items())
        rows.append(
            (
                f"task {name}",
                f"{task['title']}; {task['docs']} of {task['docs_in_all']} docs, "
                f"{task['samples']} samples a doc; {sampling}; source: {task['source']}"
                f"{_shots(task)}",
            )
        )
    rows += _measured_by(manifest)
    if model.get("thinking") is not None:
        rows.append(("told to think", "yes" if model["thinking"] else "no"))
    imported = model["backend"] == "lm-eval"
    if not imported:
        took = f"{manifest['tokens']:,} tokens in {manifest['wall_seconds']:,.0f} s"
        rows.append(("sampled", took))
    rows += [
        (
            "imported on" if imported else "machine",
            f"{machine['system']}, {machine['cpus']} CPUs, Python {machine['python']}",
        ),
        ("software", _software(manifest)),
    ]
    return _Table("Settings", "manifest.json has all of them.", ("what", "value"), tuple(rows))


def _measured_by(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The models without whose names the numbers of creative tasks say little."""
    names = manifest.get("yardsticks")
    if names and any(task["scorer"]["kind"] == "diversity" for task in manifest["tasks"].values()):
        words = names["word_vectors"] or names["encoder"]
        absent = ", ".join(manifest.get("unmeasured_by") or [])
        yield (
            "creative tasks measured by",
            f"sentence encoder {names['encoder']}, reference model {names['reference']}, vectors "
            f"of words {words}{f'; not to be had: {absent}' if absent else ''}",
        )


def _no_prompt(model: Mapping[str, Any]) -> str:
    bare = model.get("bare_prompt")
    made = f"; of a bare question the chat template makes {bare!r}" if bare else ""
    return f"no system message is sent{made}"


def _shots(task: Mapping[str, Any]) -> str:
    shots = task.get("few_shot")
    return f"; {shots['examples']} examples before each, from {shots['from']}" if shots else ""


def _origin(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, str]]:
    if model["backend"] == "lm-eval":
        return [("samples", "imported: logged by lm_eval, not drawn by psplit")]
    if "urls" in model:
        rows = [("servers", ", ".join(model["urls"])), ("base seed", str(manifest["base_seed"]))]
        left_out = ", ".join(model.get("left_out", ()))
        return [*rows, ("not taken by the servers", left_out)] if left_out else rows
    return [
        *([("parameters", f"{model['parameters']:,}")] if model.get("parameters") else []),
        ("files' fingerprint", manifest["checkpoint"]["fingerprint"]),
        ("precision and device", f"{model['dtype']} on {model['device']} ({model['backend']})"),
        ("base seed", str(manifest["base_seed"])),
    ]


def _software(manifest: Mapping[str, Any]) -> str:
    libraries = {"psplit": manifest["psplit_version"], **manifest["libraries"]}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version)


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
                    prompt = _shortened(store.prompt_text(sample.prompt_hash, mode))
                    first[sample.doc_id, mode] = (mode, prompt, text)
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
    tables: Sequence[_Table],
    plots: Sequence[Path],
    shown: Sequence[_Shown],
) -> str:
    parts = [f"# {title}", f"**{conclusion}**"]
    for table in (table for table in tables if table.first):
        parts += [f"## {table.title}", table.note, _markdown_table(table)]
    parts += [f"![{_CAPTIONS.get(p.stem, p.stem)}](plots/{p.name})" for p in plots]
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


def _terminal_table(table: _Table) -> str:
    """Title and columns, without what only a page has room for."""
    return "\n".join([table.title, "", *columns([table.header, *table.rows])])


def _markdown_table(table: _Table) -> str:
    lines = [table.header, tuple("---" for _ in table.header), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


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
    tables: Sequence[_Table],
    plots: Sequence[Path],
    shown: Sequence[_Shown],
) -> str:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(
        title=title,
        verdict=conclusion,
        tables=tables,
        plots=[
            (
                _CAPTIONS.get(path.stem, path.stem),
                base64.b64encode(path.read_bytes()).decode("ascii"),
            )
            for path in plots
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
.verdict { border-left: .3rem solid #0072b2; padding: .6rem 1rem; background: #eef5fa; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top; font-variant-numeric: tabular-nums; }
.figures th, .figures td { white-space: nowrap; }
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
<p class="verdict">{{ verdict }}</p>
{% macro section(table) %}
<h2>{{ table.title }}</h2>
<p class="note">{{ table.note }}</p>
<div class="scroll"><table{% if table.header|length > 3 %} class="figures"{% endif %}>
<thead><tr>{% for cell in table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
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
