"""Names of settings: `method.eta`, or `eta` for short, and guesses at what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from psplit_eval.errors import UsageError
from psplit_train.config import Config

__all__ = ["FREE", "MODES", "Name", "guess", "names", "paths", "setting_name"]

Name = tuple[str, ...]

MODES = "modes"
FREE: tuple[Name, ...] = (("train", "trl"), ("evaluate", "options"))
"""Settings of other libraries: any names, with values as YAML has them."""


def setting_name(text: str) -> Name:
    """The whole name of a setting: ('method', 'eta') of 'eta' or 'method.eta'.

    Raises UsageError for one that does not exist, with a guess, or that several settings end in.
    """
    name = tuple(text.split("."))
    for free in FREE:  # train.trl.NAME, or trl.NAME
        whole = name if name[:1] == free[:1] else (*free[:-1], *name)
        if len(whole) > len(free) and whole[: len(free)] == free:
            return whole
    if name[0] == MODES and len(name) == 3:
        return name
    known = list(names(Config))
    if name in known:
        return name
    found = [one for one in known if one[-len(name) :] == name]
    if len(found) > 1:
        raise UsageError(
            f"{text!r} is in several sections, expected one of "
            f"{', '.join('.'.join(one) for one in found)}; give the whole name"
        )
    if not found:
        hint = guess(name[-1], name[:-1], known)
        raise UsageError(f"unknown setting {text!r}{hint}; correct the name")
    return found[0]


def names(section: type[BaseModel], inside: Name = ()) -> Iterator[Name]:
    """Of all settings in a section, and of the sections themselves."""
    for name, field in section.model_fields.items():
        yield (*inside, name)
        for below in _sections(field.annotation):
            yield from names(below, (*inside, name))


def paths(section: type[BaseModel], inside: Name = ()) -> Iterator[Name]:
    """Of the settings that are paths."""
    for name, field in section.model_fields.items():
        if Path in (field.annotation, *get_args(field.annotation)):
            yield (*inside, name)
        for below in _sections(field.annotation):
            yield from paths(below, (*inside, name))


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section that a setting is, if it is one: of itself, or of `Section | None`."""
    for kind in (annotation, *(get_args(annotation) if _optional(annotation) else ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def guess(text: str, section: Name, known: Sequence[Name]) -> str:
    """': did you mean …?' of a name in a section, or else of one anywhere."""
    beside = [name[-1] for name in known if name[:-1] == section]
    close = get_close_matches(text, beside, n=1, cutoff=0.7)
    if not close:
        leaves = [name[-1] for name in known]
        near = get_close_matches(text, leaves, n=1, cutoff=0.7)
        close = [".".join(name) for name in known if [name[-1]] == near]
    return f": did you mean {' or '.join(map(repr, close))}?" if close else ""
