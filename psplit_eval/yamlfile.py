"""YAML files of users, read so that every complaint names the line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import yaml

from psplit_eval.errors import DataError
from psplit_eval.files import disk_errors
from psplit_eval.text import one_line, shortened, wellformed

__all__ = ["YamlReader", "composed", "shown_node"]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def composed(path: Path) -> yaml.Node | None:
    """The nodes of a file, with their places; None of an empty one. Raises DataError."""
    with disk_errors(path):
        content = path.read_bytes()
    try:
        return yaml.compose(content.decode("utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: {error.reason}, expected UTF-8; save it as such"
        ) from error
    except yaml.reader.ReaderError as error:
        line = content.decode("utf-8").count("\n", 0, error.position) + 1
        raise DataError(
            f"{path}, line {line}: character U+{error.character:04X}, expected text; take it out"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = one_line(getattr(error, "problem", None) or "no YAML")
        raise DataError(f"{path}, line {line}: {problem}; correct it") from error


class YamlReader:
    """Values out of nodes; every method raises DataError: the line, what is there, and what was
    expected."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mapping(self, node: yaml.Node, expected: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Name → its own node and its value's."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, shown_node(node), expected)
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, f"{shown_node(key)} as a name", expected)
            name = str(key.value)
            if name in found:
                self.fail(key, f"{name!r} a second time", "every name once")
            found[name] = (key, value)
        return found

    def items(self, node: yaml.Node, expected: str) -> list[yaml.Node]:
        """The nodes of a list that is not empty."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fail(node, shown_node(node), expected)
        return list(node.value)

    def text(self, node: yaml.Node, what: str) -> str:
        """Not empty, without space at its ends."""
        null = node.tag == "tag:yaml.org,2002:null"
        if null or not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self.fail(node, f"{what} {shown_node(node)}", "a text")
        return wellformed(str(node.value).strip())

    def one_of(self, node: yaml.Node, what: str, known: Iterable[str]) -> str:
        """A text that is known."""
        text, names = self.text(node, what), list(known)
        if text not in names:
            self.fail(node, f"{what} {text!r}", f"one of {', '.join(names)}")
        return text

    def number(self, node: yaml.Node, what: str, low: float, high: float) -> float:
        """A number from low to high, both included."""
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        found = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not low <= found <= high:
            self.fail(node, f"{what}: {shown_node(node)}", f"a number from {low:g} to {high:g}")
        return found

    def whole(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        """A whole number from low to high."""
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", text) or not low <= int(text) <= high:
            self.fail(node, f"{what}: {shown_node(node)}", f"a whole number from {low} to {high}")
        return int(text)

    def flag(self, node: yaml.Node, what: str) -> bool:
        """True or false."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:bool":
            self.fail(node, f"{what} {shown_node(node)}", "true or false")
        return str(node.value).casefold() in ("true", "yes", "on")

    def fail(self, node: yaml.Node | None, found: str, expected: str) -> NoReturn:
        """Raise DataError for what a node has."""
        line = node.start_mark.line + 1 if node else 1
        raise DataError(f"{self._path}, line {line}: {found}, expected {expected}; correct it")


def shown_node(node: yaml.Node) -> str:
    """What is there, on one line."""
    if isinstance(node, yaml.ScalarNode):
        return repr(shortened(node.value, 40))
    kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
    return f"a {kind}" if node.value else f"an empty {kind}"
