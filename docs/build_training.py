"""Write the settings in docs/reference/training.md again from psplit_train/config.py.

    python docs/build_training.py

Defaults and ranges are those of the models; what a setting means is the text below it in the
source. A test makes the page again and compares. What stands before the mark was written by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from psplit_train import config

PAGE = Path(__file__).parent / "reference" / "training.md"
MARK = "<!-- From here on made by docs/build_training.py. -->"

_KINDS: dict[Any, str] = {
    bool: "true or false",
    float: "number",
    int: "whole number",
    str: "text",
    Path: "path",
    dict: "names with values",
}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_CHOICES = {("method", "name"): config.METHODS}
"""Texts of which only some will do."""


def page() -> str:
    """The page's whole text: the part written by hand as it is, and all that is made."""
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0].rstrip()
    return "\n\n".join([by_hand, MARK, *_sections(config.Config, ())]) + "\n"


def _sections(model: type[BaseModel], inside: Sequence[str]) -> Iterator[str]:
    """Of all sections in a model, each with those in it."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            named = (*inside, name)
            yield f"## {'.'.join(named)}"
            yield _shown(inspect.getdoc(section) or "")
            yield _table(section, named)
            yield from _sections(section, named)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model that a setting is made of: of itself, of `Section | None`, of a list of them."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _table(section: type[BaseModel], named: Sequence[str]) -> str:
    texts = _texts(section)
    rows = [
        f"| `{name}` | {_default(field)} | {_range(field, (*named, name))} | {_shown(texts[name])} |"
        for name, field in section.model_fields.items()
    ]
    return "\n".join(["| setting | default | value | what |", "|---|---|---|---|", *rows])


def _texts(section: type[BaseModel]) -> dict[str, str]:
    """What stands below each field of a class in its source."""
    (tree,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return found


def _default(field: FieldInfo) -> str:
    """As YAML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "below"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def _range(field: FieldInfo, named: Sequence[str]) -> str:
    known = _CHOICES.get((named[0], named[-1]))
    text = ", ".join(f"`{one}`" for one in known) if known else _kind(field.annotation)
    return " ".join([text, *_bounds(field.metadata)])


def _bounds(metadata: Sequence[Any]) -> list[str]:
    limits = [(name, getattr(one, name, None)) for one in metadata for name in _SIGNS]
    found = [f"{_SIGNS[name]} {limit:g}" for name, limit in limits if limit is not None]
    return [" and ".join(found)] if found else []


def _kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _kind(part) for part in parts)
    if hasattr(annotation, "__metadata__"):
        bounds = [one for each in annotation.__metadata__ for one in getattr(each, "metadata", [])]
        return " ".join([_kind(parts[0]), *_bounds(bounds)])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {_kind(parts[0])}s"
    return "settings" if _section(annotation) else _KINDS[origin or annotation]


def _shown(text: str) -> str:
    """A docstring as a line of Markdown; YAML calls None null."""
    line = " ".join(text.split()).replace("None", "null")
    return line.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
