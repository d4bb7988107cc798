"""Two pages of `psplit-eval view`: a doc with its samples side by side, and all of one sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from psplit_eval.browsing import DocView, JudgedSample, SampleView, StoredSamples
from psplit_eval.indexes import FINISHES
from psplit_eval.pages import shown
from psplit_eval.searching import parsed
from psplit_eval.text import cut, shortened
from psplit_eval.view_frame import (
    Answer,
    facts_of,
    framed,
    link,
    missing,
    number_in,
    value_text,
    waiting,
    way,
)
from psplit_eval.worddiff import marked_differences

__all__ = ["doc_page", "sample_page"]

_PIECE = 50_000
"""Characters of a long text on one page."""


_BESIDE = 6_000
"""Characters of a sample beside others; all of it is on its own page."""


_FIELD = 2_000
"""Characters of a doc's field."""


_INDICES = 10
"""Sample indices on a doc's page."""


_COLUMNS = (
    *("finish_reason", "completion_tokens", "prompt_tokens", "seed", "attempt", "seconds"),
    *("created_at", "entropy_sum_bits", "entropy_estimate_sum_bits", "nll_sum_nats", "is_greedy"),
    *("doc_hash", "prompt_hash", "request_hash"),
)


def doc_page(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    """A doc, and some of its samples: a row an index, a column a mode."""
    if progress := samples.prepare():
        return waiting(samples, progress)
    task, doc_id = asked.get("task", ""), number_in(asked, "doc")
    number, plain = max(1, number_in(asked, "page", 1)), asked.get("marks") == "no"
    view = samples.doc(task, doc_id, (number - 1) * _INDICES, _INDICES)
    if view is None:
        return missing(samples, f"task {shortened(task, 80)} has no doc {doc_id}")
    of = {"task": task, "doc": doc_id, "marks": "no" if plain else None}
    pages = max(1, -(-len(view.indices) // _INDICES))
    if number > pages:
        return doc_page(samples, {**asked, "page": str(pages)})
    other = link("/doc", task=task, doc=doc_id, page=number, marks=None if plain else "no")
    graded = samples.indexes.graded.get(task)
    prompts = [(mode, cut(text, _BESIDE)) for mode, text in view.prompts.items()]
    header, metrics = _doc_metrics(view)
    return Answer(
        framed(
            samples,
            "view_doc.html",
            title=f"{task} doc {doc_id}",
            heading=f"{task}, doc {doc_id}",
            before=_near("/doc", task, view.before),
            after=_near("/doc", task, view.after),
            listed=link("/samples", task=task, doc=doc_id),
            fields=[*_fields(view.doc), ("target", cut(view.target, _FIELD))],
            prompts=prompts,
            metrics_header=header,
            metrics=metrics,
            note=_NOTE if len(view.modes) > 1 and not plain else "",
            toggle=_toggle(other, plain) if len(view.modes) > 1 else None,
            way=way("/doc", of, "page", number, pages),
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
    return "" if doc_id is None else link(path, task=task, doc=doc_id)


def _fields(doc: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            shortened(name, 60),
            cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), _FIELD),
        )
        for name, value in doc.items()
    ]


def _doc_metrics(view: DocView) -> tuple[list[str], list[list[str]]]:
    """Metric by mode, of the whole doc."""
    by_mode = {mode: dict(values) for mode, values in view.metrics.items()}
    names = dict.fromkeys(name for values in by_mode.values() for name in values)
    rows = [
        [name, *(value_text(values.get(name, math.nan)) for values in by_mode.values())]
        for name in names
    ]
    return ["metric", *by_mode], rows


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
            "link": link("/sample", task=view.task, mode=mode, doc=view.doc_id, sample=index),
            "facts": _facts_of(sample, graded),
            "text": text + more,
            "numbers": [(name, value_text(value)) for name, value in sample.metrics],
        }


def _marked(texts: Mapping[str, str]) -> dict[str, Markup]:
    """The first mode's text beside each of the others', with their differences marked."""
    if len(texts) < 2:
        return {mode: shown(text) for mode, text in texts.items()}
    (first, text), *others = texts.items()
    pairs = [(mode, marked_differences(text, other)) for mode, other in others]
    return {first: pairs[0][1][0]} | {mode: both[1] for mode, both in pairs}


def _facts_of(view: SampleView, graded: str | None) -> list[str]:
    columns = view.columns
    known = columns["finish_reason"] if columns["finish_reason"] in FINISHES else "not known"
    finish = "missing" if columns["error"] is not None else known
    value = dict(view.metrics).get(graded or "")
    right = bool(value) if value in (0, 1) and finish != "missing" else None
    bits = columns["entropy_sum_bits"]
    if bits is None:
        bits = columns.get("entropy_estimate_sum_bits")
    return facts_of(finish, right, columns["completion_tokens"], bits)


def sample_page(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    """Everything stored of a sample; long texts come in pages."""
    if progress := samples.prepare():
        return waiting(samples, progress)
    task, mode = asked.get("task", ""), asked.get("mode", "")
    doc_id, index = number_in(asked, "doc"), number_in(asked, "sample")
    view = samples.sample(mode, task, doc_id, index)
    if view is None:
        name = shortened(f"{task} doc {doc_id} {mode} sample {index}", 160)
        return missing(samples, f"there is no sample {name}")
    name = f"{task}, doc {doc_id}, {mode}, sample {index}"
    before, after = samples.neighbours(task, doc_id)
    columns = [n for n in _COLUMNS if view.columns.get(n) is not None]
    header, crossed = _crossed(view)
    return Answer(
        framed(
            samples,
            "view_sample.html",
            title=name,
            heading=name,
            doc=f"{link('/doc', task=task, doc=doc_id, page=_page_of(samples, view))}#s{index}",
            before=_near("/doc", task, before),
            after=_near("/doc", task, after),
            facts=_facts_of(view, samples.indexes.graded.get(task)),
            pieces=list(_pieces(view, asked)),
            metrics=[(name, value_text(value)) for name, value in view.metrics],
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
        number = min(max(1, number_in(asked, name, 1)), pages)
        part = text[(number - 1) * _PIECE : number * _PIECE]
        of = {key: value for key, value in given.items() if key != name}
        yield {
            "id": name,
            "title": title,
            "note": _length(text),
            "text": search.marked(part) if name in ("text", "thought") else shown(part),
            "way": way("/sample", of, name, number, pages, f"#{name}"),
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
