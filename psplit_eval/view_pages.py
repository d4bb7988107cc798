"""The pages of `psplit-eval view`: an address's path and parameters in, HTML out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from psplit_eval.browsing import DocView, Filter, JudgedSample, Row, SampleView, StoredSamples
from psplit_eval.indexes import FINISHES, Progress
from psplit_eval.pages import render, shown
from psplit_eval.searching import LONGEST_SEARCH, parsed
from psplit_eval.text import shortened
from psplit_eval.worddiff import marked_differences

__all__ = ["Answer", "answer"]

_PIECE = 50_000
"""Characters of a long text on one page."""
_BESIDE = 6_000
"""Characters of a sample beside others; all of it is on its own page."""
_FIELD = 2_000
"""Characters of a doc's field."""
_INDICES = 10
"""Sample indices on a doc's page."""
_ENDINGS = {
    "stop": "by itself",
    "length": "at the length limit",
    "missing": "missing",
    "scored": "given and scored",
    "not known": "not known",
}
_COLUMNS = (
    *("finish_reason", "completion_tokens", "prompt_tokens", "seed", "attempt", "seconds"),
    *("created_at", "entropy_sum_bits", "entropy_estimate_sum_bits", "nll_sum_nats", "is_greedy"),
    *("doc_hash", "prompt_hash", "request_hash"),
)
_QUESTIONS = {"split": "Split", "accuracy": "Accuracy kept", "creative": "More creative"}


@dataclass(frozen=True)
class Answer:
    """HTML, or a file of it."""

    content: str | Path
    status: int = 200


def answer(samples: StoredSamples, path: str, asked: Mapping[str, str]) -> Answer:
    """The page at `path` with the parameters `asked`; 404 for what is not there.

    Where something has to be built first, a page that says so and loads itself again. Raises
    PsplitError for a store that cannot be read.
    """
    pages = {"/": _overview, "/samples": _samples, "/doc": _doc, "/sample": _sample}
    if path == "/report":
        return _report(samples)
    if path not in pages:
        return _missing(samples, f"there is no page {shortened(path, 80)}")
    try:
        return pages[path](samples, asked)
    except ValueError:
        return _missing(samples, "a number in this address is none")


def _page(samples: StoredSamples, template: str, **content: Any) -> str:
    run = samples.folder.resolve().name
    report = (samples.folder / "report.html").is_file()
    return render(template, **{"title": run, "run": run, "report": report, **content})


def _report(samples: StoredSamples) -> Answer:
    path = samples.folder / "report.html"
    if path.is_file():
        return Answer(path)
    return _missing(samples, f"no report yet: psplit-eval report {samples.folder} makes one")


def _missing(samples: StoredSamples, what: str) -> Answer:
    content = {"title": "Not found", "heading": "Not found", "message": what, "again": False}
    return Answer(_page(samples, "view_message.html", **content), 404)


def _waiting(samples: StoredSamples, progress: Progress) -> Answer:
    """Said while something is built, in place of the page that needs it."""
    heading = "Listing the samples" if progress.what == "list" else "Making an index of all words"
    message = f"{_done(progress)} This is done once; the page will be here as soon as it is ready."
    content = {"title": heading, "heading": heading, "message": message, "again": True}
    return Answer(_page(samples, "view_message.html", **content))


def _done(progress: Progress) -> str:
    share = progress.done / progress.of if progress.of else 0.0
    return f"{progress.done:,} of {progress.of:,} samples read ({share:.0%})."


def _link(path: str, **given: object) -> str:
    """An address of ours, with those parameters that say anything."""
    said = {name: value for name, value in given.items() if value not in (None, "")}
    return f"{path}?{urlencode(said, errors='replace')}" if said else path


def _number(asked: Mapping[str, str], name: str, default: int = 0) -> int:
    text = asked.get(name, "").strip()
    number = int(text) if text else default
    if abs(number) >= 2**63:
        raise ValueError(name)
    return number


def _overview(samples: StoredSamples, _: Mapping[str, str]) -> Answer:
    manifest = samples.manifest
    progress = samples.prepare(patience=0.5)
    modes = [(m["name"], m["system_prompt"] or "no system prompt") for m in manifest["modes"]]
    tasks = [
        (name, f"{entry.get('title', '')} · {entry['docs']:,} docs × {entry['samples']} samples")
        for name, entry in manifest["tasks"].items()
    ]
    values_header, values = _values(samples)
    return Answer(
        _page(
            samples,
            "view_overview.html",
            heading=f"{manifest['checkpoint']['name']}: {len(tasks)} tasks in {len(modes)} modes",
            about=_about(samples),
            answers=list(_answers(samples.folder / "divergence.json")),
            longest=LONGEST_SEARCH,
            waiting=_done(progress) if progress else "",
            header=_CELLS,
            cells=[] if progress else list(_cells(samples)),
            tasks=tasks,
            modes=[(name, shortened(prompt, _FIELD)) for name, prompt in modes],
            values_header=values_header,
            values=values,
        )
    )


def _about(samples: StoredSamples) -> str:
    manifest = samples.manifest
    made = f"made {manifest.get('created_at', 'at a time not known')}"
    by = f"by psplit {manifest.get('psplit_version', '(version not known)')}"
    command = shortened(" ".join(map(str, manifest.get("command") or [])), 300)
    return f"{samples.folder}, {made} {by}, {manifest['model']['backend']}: {command}"


def _answers(path: Path) -> Iterator[dict[str, str]]:
    """What the report answers; nothing where there is none, or one of another form."""
    try:
        for found in json.loads(path.read_text(encoding="utf-8"))["answers"]:
            question = _QUESTIONS.get(found["question"], found["question"])
            verdict = str(found["verdict"])
            yield {
                "question": f"{question} ({found['mode_b']} beside {found['mode_a']})",
                "verdict": verdict,
                "kind": verdict if verdict in ("yes", "no", "inconclusive") else "",
                "evidence": found["evidence"],
            }
    except (OSError, ValueError, KeyError, TypeError):
        return


_CELLS = (
    *("task", "mode", "docs", "samples", "missing", "at the length limit", "right"),
    *("tokens a sample", "bits a token"),
)


def _cells(samples: StoredSamples) -> Iterator[list[object]]:
    for cell in samples.cells():
        of = {"task": cell.task, "mode": cell.mode}
        good = cell.samples - cell.missing
        right = "–"
        if cell.graded:
            right = f"{cell.right / cell.graded:.1%} of {cell.graded:,}"
        yield [
            {"link": _link("/samples", task=cell.task), "text": cell.task},
            {"link": _link("/samples", **of), "text": cell.mode},
            f"{cell.docs:,}",
            f"{cell.samples:,}",
            _counted(cell.missing, _link("/samples", **of, finish="missing")),
            _counted(cell.truncated, _link("/samples", **of, finish="length")),
            right,
            f"{cell.tokens / good:,.0f}" if good and cell.tokens else "–",
            f"{cell.bits / cell.measured:.3f}" if cell.measured else "–",
        ]


def _counted(number: int, link: str) -> object:
    return {"link": link, "text": f"{number:,}"} if number else "0"


def _values(samples: StoredSamples) -> tuple[list[str], list[list[str]]]:
    """leaderboard.csv without the model, as cells."""
    rows = samples.values()
    header = [name for name in rows[0] if name != "model"] if rows else []
    return header, [[str(row.get(name) or "") for name in header] for row in rows]


def _wanted(asked: Mapping[str, str]) -> Filter:
    return Filter(
        asked.get("task") or None,
        asked.get("mode") or None,
        asked.get("finish") or None,
        {"yes": True, "no": False}.get(asked.get("right", "")),
        _number(asked, "doc") if asked.get("doc", "").strip() else None,
        asked.get("words", "").strip()[:LONGEST_SEARCH],
    )


def _samples(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    wanted = _wanted(asked)
    if progress := samples.prepare(wanted.words):
        return _waiting(samples, progress)
    page = samples.page(wanted, _number(asked, "page", 1))
    right = {True: "yes", False: "no", None: None}[wanted.right]
    of: dict[str, object] = {"words": wanted.words, "right": right, "doc": wanted.doc}
    of |= {"task": wanted.task, "mode": wanted.mode, "finish": wanted.finish}
    said = f"{page.total:,} samples" if page.total != 1 else "1 sample"
    if wanted.words and not parsed(wanted.words).phrases:
        said += "; there is no word in what was searched for"
    manifest = samples.manifest
    tasks = list(dict.fromkeys([*manifest["tasks"], *filter(None, [wanted.task])]))
    modes = dict.fromkeys([*(m["name"] for m in manifest["modes"]), *filter(None, [wanted.mode])])
    return Answer(
        _page(
            samples,
            "view_samples.html",
            title=f"{said}, page {page.number}",
            words=wanted.words,
            longest=LONGEST_SEARCH,
            doc="" if wanted.doc is None else wanted.doc,
            tasks=_options({name: name for name in tasks}, wanted.task),
            modes=_options({name: name for name in modes}, wanted.mode),
            finishes=_options(_ENDINGS, wanted.finish),
            rights=_options({"yes": "right", "no": "wrong"}, right),
            said=said,
            way=_way("/samples", of, "page", page.number, page.pages),
            rows=[_row(row, wanted.words) for row in page.rows],
        )
    )


def _options(known: Mapping[str, str], chosen: str | None) -> list[tuple[str, str, bool]]:
    return [(value, text, value == chosen) for value, text in known.items()]


def _way(
    path: str, of: Mapping[str, object], name: str, number: int, pages: int, anchor: str = ""
) -> dict[str, Any]:
    """Links from page to page; `name` is the parameter that has the page."""

    def to(page: int) -> str:
        return _link(path, **of, **{name: page}) + anchor

    hidden = [(key, value) for key, value in of.items() if value not in (None, "")]
    return {
        "path": path,
        "number": number,
        "pages": pages,
        "first": to(1),
        "last": to(pages),
        "before": to(number - 1) if number > 1 else "",
        "after": to(number + 1) if number < pages else "",
        "hidden": hidden if name == "page" else None,
    }


def _row(row: Row, words: str) -> dict[str, object]:
    before, behind = (Markup("… ") if more else Markup("") for more in row.cut)
    text = parsed(words).marked(row.text)
    given = {"task": row.task, "mode": row.mode, "doc": row.doc_id, "sample": row.sample_idx}
    return {
        "link": _link("/sample", **given, words=words),
        "name": f"{row.task} · doc {row.doc_id} · {row.mode} · sample {row.sample_idx}",
        "facts": _facts(row.finish, row.right, row.tokens, row.bits),
        "text": before + text + (Markup(" …") if behind else ""),
    }


def _facts(finish: str, right: bool | None, tokens: int | None, bits: float | None) -> list[str]:
    facts = [] if finish == "stop" else [f"ended {_ENDINGS[finish]}"]
    if finish == "missing":
        facts = ["missing"]
    if tokens is not None:
        facts.append(f"{tokens:,} tokens")
    if bits is not None and tokens:
        facts.append(f"{bits / tokens:.2f} bits a token")
    if right is not None:
        facts.append("right" if right else "wrong")
    return facts


def _facts_of(view: SampleView, graded: str | None) -> list[str]:
    columns = view.columns
    known = columns["finish_reason"] if columns["finish_reason"] in FINISHES else "not known"
    finish = "missing" if columns["error"] is not None else known
    value = dict(view.metrics).get(graded or "")
    right = bool(value) if value in (0, 1) and finish != "missing" else None
    bits = columns["entropy_sum_bits"]
    if bits is None:
        bits = columns.get("entropy_estimate_sum_bits")
    return _facts(finish, right, columns["completion_tokens"], bits)


def _doc(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    if progress := samples.prepare():
        return _waiting(samples, progress)
    task, doc_id = asked.get("task", ""), _number(asked, "doc")
    number, plain = max(1, _number(asked, "page", 1)), asked.get("marks") == "no"
    view = samples.doc(task, doc_id, (number - 1) * _INDICES, _INDICES)
    if view is None:
        return _missing(samples, f"task {shortened(task, 80)} has no doc {doc_id}")
    of = {"task": task, "doc": doc_id, "marks": "no" if plain else None}
    pages = max(1, -(-len(view.indices) // _INDICES))
    other = _link("/doc", task=task, doc=doc_id, page=number, marks=None if plain else "no")
    graded = samples.indexes.graded.get(task)
    prompts = [(mode, _cut(text, _BESIDE)) for mode, text in view.prompts.items()]
    header, metrics = _doc_metrics(view)
    return Answer(
        _page(
            samples,
            "view_doc.html",
            title=f"{task} doc {doc_id}",
            heading=f"{task}, doc {doc_id}",
            before=_near("/doc", task, view.before),
            after=_near("/doc", task, view.after),
            listed=_link("/samples", task=task, doc=doc_id),
            fields=[*_fields(view.doc), ("target", _cut(view.target, _FIELD))],
            prompts=prompts,
            metrics_header=header,
            metrics=metrics,
            note=_NOTE if len(view.modes) > 1 and not plain else "",
            toggle=_toggle(other, plain) if len(view.modes) > 1 else None,
            way=_way("/doc", of, "page", number, pages),
            rows=[(index, list(_beside(view, index, graded, plain))) for index in view.samples],
        )
    )


_NOTE = (
    "Marked are words that the sample of the same number in the other mode has not at their place; "
    "of three modes or more, the first one is beside each of the others."
)


def _toggle(link: str, plain: bool) -> dict[str, str]:
    return {"link": link, "text": "With marks" if plain else "Without marks"}


def _near(path: str, task: str, doc_id: int | None) -> str:
    return "" if doc_id is None else _link(path, task=task, doc=doc_id)


def _fields(doc: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            shortened(name, 60),
            _cut(
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _FIELD
            ),
        )
        for name, value in doc.items()
    ]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} … ({len(text):,} characters in all)"


def _doc_metrics(view: DocView) -> tuple[list[str], list[list[str]]]:
    """Metric by mode, of the whole doc."""
    by_mode = {mode: dict(values) for mode, values in view.metrics.items()}
    names = dict.fromkeys(name for values in by_mode.values() for name in values)
    rows = [
        [name, *(_value(values.get(name, math.nan)) for values in by_mode.values())]
        for name in names
    ]
    return ["metric", *by_mode], rows


def _value(value: float | None) -> str:
    """A stored number; an undefined one is a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:.6g}"


def _beside(
    view: DocView, index: int, graded: str | None, plain: bool
) -> Iterator[dict[str, object]]:
    """The samples of one index, mode by mode."""
    found = view.samples[index]
    texts = {mode: found[mode].columns["text"] or "" for mode in view.modes if mode in found}
    parts = {mode: text[:_BESIDE] for mode, text in texts.items()}
    marked = {mode: shown(text) for mode, text in parts.items()} if plain else _marked(parts)
    for mode in view.modes:
        if mode not in found:
            yield {"mode": mode, "link": "", "facts": ["not there"], "text": "", "numbers": []}
            continue
        sample, rest = found[mode], len(texts[mode]) - _BESIDE
        error = sample.columns["error"]
        text = marked[mode] if error is None else shown(error[:_BESIDE])
        more = shown(f" … ({rest:,} more characters)") if rest > 0 else Markup("")
        yield {
            "mode": mode,
            "link": _link("/sample", task=view.task, mode=mode, doc=view.doc_id, sample=index),
            "facts": _facts_of(sample, graded),
            "text": text + more,
            "numbers": [(name, _value(value)) for name, value in sample.metrics],
        }


def _marked(texts: Mapping[str, str]) -> dict[str, Markup]:
    """The first mode's text beside each of the others', with their differences marked."""
    if len(texts) < 2:
        return {mode: shown(text) for mode, text in texts.items()}
    (first, text), *others = texts.items()
    pairs = [(mode, marked_differences(text, other)) for mode, other in others]
    return {first: pairs[0][1][0]} | {mode: both[1] for mode, both in pairs}


def _sample(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    if progress := samples.prepare():
        return _waiting(samples, progress)
    task, mode = asked.get("task", ""), asked.get("mode", "")
    doc_id, index = _number(asked, "doc"), _number(asked, "sample")
    view = samples.sample(mode, task, doc_id, index)
    if view is None:
        name = shortened(f"{task} doc {doc_id} {mode} sample {index}", 160)
        return _missing(samples, f"there is no sample {name}")
    name = f"{task}, doc {doc_id}, {mode}, sample {index}"
    before, after = samples.neighbours(task, doc_id)
    columns = [n for n in _COLUMNS if view.columns.get(n) is not None]
    header, crossed = _crossed(view)
    return Answer(
        _page(
            samples,
            "view_sample.html",
            title=name,
            heading=name,
            doc=f"{_link('/doc', task=task, doc=doc_id, page=_page_of(samples, view))}#s{index}",
            before=_near("/doc", task, before),
            after=_near("/doc", task, after),
            facts=_facts_of(view, samples.indexes.graded.get(task)),
            pieces=list(_pieces(view, asked)),
            metrics=[(name, _value(value)) for name, value in view.metrics],
            crossed_header=header,
            crossed=crossed,
            judged=[_judged(one) for one in view.judged],
            drawn=[(name, str(view.columns[name])) for name in columns],
        )
    )


def _page_of(samples: StoredSamples, view: SampleView) -> int | None:
    """On which page of its doc the sample is; None: on the first."""
    place = samples.place(view.columns["task"], view.columns["doc_id"], view.columns["sample_idx"])
    return place // _INDICES + 1 if place >= _INDICES else None


def _pieces(view: SampleView, asked: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """The texts of a sample, each page by page."""
    columns, search = view.columns, parsed(asked.get("words", ""))
    texts = {
        "error": ("Error", columns["error"]),
        "text": ("Text", columns["text"]),
        "thought": ("Thought", columns["thought"]),
        "prompt": ("Prompt", view.prompt),
    }
    names = ("task", "mode", "doc", "sample", "words", *texts)
    given = {name: asked[name] for name in names if name in asked}
    for name, (title, text) in texts.items():
        if text is None:
            continue
        pages = max(1, -(-len(text) // _PIECE))
        number = min(max(1, _number(asked, name, 1)), pages)
        part = text[(number - 1) * _PIECE : number * _PIECE]
        of = {key: value for key, value in given.items() if key != name}
        yield {
            "id": name,
            "title": title,
            "note": _length(text),
            "text": search.marked(part) if name in ("text", "thought") else shown(part),
            "way": _way("/sample", of, name, number, pages, f"#{name}"),
        }


def _length(text: str) -> str:
    return f"{len(text):,} characters" if text else "empty"


def _crossed(view: SampleView) -> tuple[list[str], list[list[str]]]:
    sums = ("entropy_sum_bits", "nll_sum_bits", "kl_sum_bits", "kl_back_sum_bits", "js_sum_bits")
    header = ["policy", "tokens", "entropy, bits", "surprisal, bits", "KL to it, bits"]
    header += ["KL from it, bits", "JS, bits"]
    rows = [
        [str(row["policy"]), f"{row['tokens']:,}", *(_mean(row[s], row["tokens"]) for s in sums)]
        for row in view.cross_scores
    ]
    return header, rows


def _mean(total: float | None, tokens: int) -> str:
    return "–" if total is None or not tokens else f"{total / tokens:.4f}"


def _judged(one: JudgedSample) -> dict[str, str | None]:
    name = f"{one.judge}, rubric {one.rubric}"
    if one.against:
        mode, index, first = one.against
        place = "shown first" if first else "shown second"
        name += f", beside {mode} sample {index}, which was {place}"
    said = ", ".join(f"{key} {value:g}" for key, value in (one.verdict or {}).items())
    trouble = f"no verdict: {one.trouble}"
    return {"name": name, "verdict": said if one.verdict else trouble, "reply": one.reply}
