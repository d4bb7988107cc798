"""The pages of `psplit-eval view`: an address's path and parameters in, HTML out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from psplit_eval.browsing import Filter, Row, StoredSamples
from psplit_eval.searching import LONGEST_SEARCH, parsed
from psplit_eval.text import cut, shortened
from psplit_eval.view_frame import (
    ENDINGS,
    Answer,
    NoNumberError,
    done,
    facts_of,
    framed,
    link,
    missing,
    number_in,
    waiting,
    way,
)
from psplit_eval.view_texts import doc_page, sample_page

__all__ = ["answer"]

_PROMPT = 2_000
"""Characters of a mode's system prompt on the overview."""


def answer(samples: StoredSamples, path: str, asked: Mapping[str, str]) -> Answer:
    """The page at `path` with the parameters `asked`; 404 for what is not there.

    Where something has to be built first, a page that says so and loads itself again. Raises
    PsplitError for a store that cannot be read.
    """
    pages = {"/": _overview, "/samples": _samples, "/doc": doc_page, "/sample": sample_page}
    if path == "/report":
        return _report(samples)
    if path not in pages:
        return missing(samples, f"there is no page {shortened(path, 80)}")
    try:
        return pages[path](samples, asked)
    except NoNumberError:
        return missing(samples, "a number in this address is none")


def _report(samples: StoredSamples) -> Answer:
    path = samples.folder / "report.html"
    if path.is_file():
        return Answer(path)
    return missing(samples, f"no report yet: psplit-eval report {samples.folder} makes one")


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
        framed(
            samples,
            "view_overview.html",
            heading=f"{manifest['checkpoint']['name']}: {len(tasks)} tasks in {len(modes)} modes",
            about=_about(samples),
            answers=list(_answers(samples.folder / "divergence.json")),
            longest=LONGEST_SEARCH,
            waiting=done(progress) if progress else "",
            header=_CELLS,
            cells=[] if progress else list(_cells(samples)),
            tasks=tasks,
            modes=[(name, cut(prompt, _PROMPT)) for name, prompt in modes],
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
            question = str(found["question"])
            verdict = str(found["verdict"])
            modes = f"({found['mode_b']} beside {found['mode_a']})"
            yield {
                "question": f"{question[:1].upper()}{question[1:]} {modes}",
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
            {"link": link("/samples", task=cell.task), "text": cell.task},
            {"link": link("/samples", **of), "text": cell.mode},
            f"{cell.docs:,}",
            f"{cell.samples:,}",
            _counted(cell.missing, link("/samples", **of, finish="missing")),
            _counted(cell.truncated, link("/samples", **of, finish="length")),
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
        number_in(asked, "doc") if asked.get("doc", "").strip() else None,
        asked.get("words", "").strip()[:LONGEST_SEARCH],
    )


def _samples(samples: StoredSamples, asked: Mapping[str, str]) -> Answer:
    wanted = _wanted(asked)
    if progress := samples.prepare(wanted.words):
        return waiting(samples, progress)
    page = samples.page(wanted, number_in(asked, "page", 1))
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
        framed(
            samples,
            "view_samples.html",
            title=f"{said}, page {page.number}",
            words=wanted.words,
            longest=LONGEST_SEARCH,
            doc="" if wanted.doc is None else wanted.doc,
            tasks=_options({name: name for name in tasks}, wanted.task),
            modes=_options({name: name for name in modes}, wanted.mode),
            finishes=_options(ENDINGS, wanted.finish),
            rights=_options({"yes": "right", "no": "wrong"}, right),
            said=said,
            way=way("/samples", of, "page", page.number, page.pages),
            rows=[_row(row, wanted.words) for row in page.rows],
        )
    )


def _options(known: Mapping[str, str], chosen: str | None) -> list[tuple[str, str, bool]]:
    return [(value, text, value == chosen) for value, text in known.items()]


def _row(row: Row, words: str) -> dict[str, object]:
    before, behind = (Markup("… ") if more else Markup("") for more in row.cut)
    text = parsed(words).marked(row.text)
    given = {"task": row.task, "mode": row.mode, "doc": row.doc_id, "sample": row.sample_idx}
    return {
        "link": link("/sample", **given, words=words),
        "name": f"{row.task} · doc {row.doc_id} · {row.mode} · sample {row.sample_idx}",
        "facts": facts_of(row.finish, row.right, row.tokens, row.bits),
        "text": before + text + (Markup(" …") if behind else ""),
    }
