"""What the pages of `psplit-eval view` share: a frame, links, steps from page to page, and words
for what became of a sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from psplit_eval.browsing import StoredSamples
from psplit_eval.indexes import Progress
from psplit_eval.pages import render

__all__ = [
    "ENDINGS",
    "Answer",
    "NoNumberError",
    "done",
    "facts_of",
    "framed",
    "link",
    "missing",
    "number_in",
    "value_text",
    "waiting",
    "way",
]

ENDINGS = {
    "stop": "by itself",
    "length": "at the length limit",
    "missing": "missing",
    "scored": "given and scored",
    "not known": "not known",
}


@dataclass(frozen=True)
class Answer:
    """HTML, or a file of it."""

    content: str | Path
    status: int = 200


def framed(samples: StoredSamples, template: str, **content: Any) -> str:
    """HTML of a template with `content`, and what every page of a run has around it."""
    run = samples.folder.resolve().name
    report = (samples.folder / "report.html").is_file()
    return render(template, **{"title": run, "run": run, "report": report, **content})


def missing(samples: StoredSamples, what: str) -> Answer:
    """404: says `what` is not there."""
    content = {"title": "Not found", "heading": "Not found", "message": what, "again": False}
    return Answer(framed(samples, "view_message.html", **content), 404)


def waiting(samples: StoredSamples, progress: Progress) -> Answer:
    """Said while something is built, in place of the page that needs it."""
    heading = "Listing the samples" if progress.what == "list" else "Making an index of all words"
    message = f"{done(progress)} This is done once; the page will be here as soon as it is ready."
    content = {"title": heading, "heading": heading, "message": message, "again": True}
    return Answer(framed(samples, "view_message.html", **content))


def done(progress: Progress) -> str:
    """How far building is, in words."""
    share = progress.done / progress.of if progress.of else 0.0
    return f"{progress.done:,} of {progress.of:,} samples read ({share:.0%})."


def link(path: str, **given: object) -> str:
    """An address of ours, with those parameters that say anything."""
    said = {name: value for name, value in given.items() if value not in (None, "")}
    return f"{path}?{urlencode(said, errors='replace')}" if said else path


class NoNumberError(Exception):
    """A parameter that should be a whole number."""


def number_in(asked: Mapping[str, str], name: str, default: int = 0) -> int:
    """A whole number among the parameters. Raises NoNumberError for what is none, or too great."""
    text = asked.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise NoNumberError(name)
    return int(text)


def way(
    path: str, of: Mapping[str, object], name: str, number: int, pages: int, anchor: str = ""
) -> dict[str, Any]:
    """Steps from page to page, for a template; `name` is the parameter that has the page's number,
    from 1, and `of` are the others."""

    def to(page: int) -> str:
        return link(path, **of, **{name: page}) + anchor

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


def facts_of(finish: str, right: bool | None, tokens: int | None, bits: float | None) -> list[str]:
    """What became of a sample, one short phrase each; what is usual or not known is left out."""
    facts = [] if finish == "stop" else [f"ended {ENDINGS[finish]}"]
    if finish == "missing":
        facts = ["missing"]
    if tokens is not None:
        facts.append(f"{tokens:,} tokens")
    if bits is not None and tokens:
        facts.append(f"{bits / tokens:.2f} bits a token")
    if right is not None:
        facts.append("right" if right else "wrong")
    return facts


def value_text(value: float | None) -> str:
    """A stored number; an undefined one is a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:.6g}"
