"""Rubrics: what a judge is asked, as YAML in judges/ or a user's file, and the questions they make.

A rubric has dimensions with anchored levels on one scale of whole numbers, and one question that
compares two texts. A bad file gets an error that names the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from psplit_eval.errors import DataError, UnknownNameError
from psplit_eval.fencing import UNTRUSTED, fence_code, fenced, neutralised
from psplit_eval.replies import LABELS, Choice, Form, Scores
from psplit_eval.requests import digest
from psplit_eval.suites import shipped_folder
from psplit_eval.yamlfile import YamlReader, composed, shown_node

__all__ = ["Dimension", "Question", "Rubric", "find_rubric", "read_rubric", "rubric_names"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_FIELDS: Mapping[str, tuple[str, bool]] = {
    "name": ("a name of lower-case letters, digits and single _", True),
    "version": ("a whole number from 1 on", True),
    "about": ("a text", True),
    "tasks": ("a list of task names or patterns", False),
    "text": ("what the judged text is called", False),
    "prompt": ("what the text answers is called", False),
    "scale": ("{low: 0, high: 10}, whole numbers, low below high", True),
    "instructions": ("a text", True),
    "reason": ("true or false", False),
    "primary": ("one of the dimensions", True),
    "creative": ("true or false", False),
    "dimensions": ("dimensions by name", True),
    "comparison": ("a question about two texts", True),
}
"""Field → what is expected, and whether it must be there."""
_WIDEST = 100


@dataclass(frozen=True)
class Question:
    """What a judge is asked: system and user message, and the form of its answer.

    `about` names it for judges whose answers were recorded; no other judge sees it.
    """

    system: str
    user: str
    form: Form
    about: str = ""

    def content_hash(self, judge: str, named: bool = False) -> str:
        """SHA-256 of all that the judge's answer depends on; `named`: of its name, too."""
        parts = (judge, self.system, self.user, self.form.schema())
        return digest(*parts, self.about) if named else digest(*parts)


@dataclass(frozen=True)
class Dimension:
    """One thing that is scored; `levels`: score → what a text of that score is like."""

    name: str
    question: str
    levels: Mapping[int, str]


@dataclass(frozen=True)
class Rubric:
    """What texts are judged by.

    `low` and `high`: ends of the scale. `primary`: the dimension that decides. `tasks`: patterns of
    the tasks that it is for. `text` and `prompt`: what the judged text is called, and what it
    answers. `reason`: a judge that writes gives a reason first. `creative`: the primary dimension
    and the comparison are about creativity, so that they count in a verdict about it.
    """

    name: str
    version: int
    about: str
    tasks: tuple[str, ...]
    text: str
    prompt: str
    low: int
    high: int
    instructions: str
    reason: bool
    primary: str
    dimensions: tuple[Dimension, ...]
    comparison: str
    creative: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the dimensions."""
        return tuple(dimension.name for dimension in self.dimensions)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that a judge is asked with, and the dimension that decides; the
        rubric's name and its tasks are no part of it."""
        scored, compared = self.score_question(" ", ""), self.choice_question(" ", ("", ""))
        words = [part for q in (scored, compared) for part in (q.system, q.user, q.form.schema())]
        return digest(*words, self.primary)

    def is_for(self, task: str) -> bool:
        """Whether one of its patterns fits to a task's name."""
        return any(fnmatchcase(task, pattern) for pattern in self.tasks)

    def scores(self, writes: bool = True) -> Scores:
        """The form of scores; `writes`: with a reason, where the rubric wants one."""
        return Scores(self.names, self.low, self.high, self.reason and writes)

    def choice(self, writes: bool = True) -> Choice:
        """The form of a comparison."""
        return Choice(reason=self.reason and writes)

    def score_question(
        self,
        prompt: str,
        text: str,
        *,
        writes: bool = True,
        repeat: int = 0,
        special: tuple[str, ...] = (),
        about: str = "",
    ) -> Question:
        """Score one text. `repeat`: the same question with other codes; `special`: the judge's own
        control tokens."""
        form = self.scores(writes)
        code = fence_code(f"{prompt}\0{text}", repeat)
        parts = [(self.prompt, prompt)] if prompt else []
        user = self._user([*parts, (self.text, text)], code, special)
        ask = f"Score the {self.text} on every dimension."
        return Question(self._systems["scores", writes], f"{user}\n\n{ask}", form, about)

    def choice_question(
        self,
        prompt: str,
        texts: tuple[str, str],
        *,
        writes: bool = True,
        repeat: int = 0,
        special: tuple[str, ...] = (),
        about: str = "",
    ) -> Question:
        """Compare two texts, shown in their order."""
        form = self.choice(writes)
        code = fence_code("\0".join([prompt, *texts]), repeat)
        named = [(f"{self.text} {label}", text) for label, text in zip(LABELS, texts, strict=True)]
        parts = [(self.prompt, prompt)] if prompt else []
        user = self._user([*parts, *named], code, special)
        system = self._systems["choice", writes]
        return Question(system, f"{user}\n\n{self.comparison}", form, about)

    def _user(self, parts: list[tuple[str, str]], code: str, special: tuple[str, ...]) -> str:
        return "\n\n".join(fenced(name, neutralised(text, special), code) for name, text in parts)

    @cached_property
    def _systems(self) -> Mapping[tuple[str, bool], str]:
        """(kind of question, whether the judge writes) → system message."""
        forms: Mapping[str, Callable[[bool], Form]] = {"scores": self.scores, "choice": self.choice}
        return {
            (kind, writes): self._system(form(writes))
            for kind, form in forms.items()
            for writes in (True, False)
        }

    def _system(self, form: Form) -> str:
        scored = isinstance(form, Scores)
        lines = [f"You judge a {self.text}. {self.about}", self.instructions.strip(), UNTRUSTED]
        if scored:
            lines += [f"Scores are whole numbers from {self.low} to {self.high}."]
            lines += map(_anchored, self.dimensions)
        else:
            criteria = "\n".join(f"- {d.name}: {d.question}" for d in self.dimensions)
            lines += [
                f"You compare two texts, called {LABELS[0]} and {LABELS[1]}. Which of them comes "
                f"first says nothing. What counts:\n{criteria}",
                self.comparison.strip(),
            ]
        lines.append(f"Answer with one JSON object and nothing else: {form.example()}")
        return "\n\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML."""
        return {
            "name": self.name,
            "version": self.version,
            "about": self.about,
            "tasks": list(self.tasks),
            "text": self.text,
            "prompt": self.prompt,
            "scale": {"low": self.low, "high": self.high},
            "instructions": self.instructions,
            "reason": self.reason,
            "primary": self.primary,
            "creative": self.creative,
            "dimensions": {
                d.name: {"question": d.question, "levels": dict(d.levels)} for d in self.dimensions
            },
            "comparison": self.comparison,
        }


def _anchored(dimension: Dimension) -> str:
    levels = "\n".join(f"  {score}: {text}" for score, text in sorted(dimension.levels.items()))
    return f"{dimension.name}: {dimension.question}\n{levels}"


def rubric_names() -> list[str]:
    """Of the rubrics that psplit ships."""
    return sorted(path.stem for path in _shipped())


def _shipped() -> Iterator[Path]:
    for path in sorted(shipped_folder("judges").glob("*.yaml")):
        if "dimensions:" in path.read_text(encoding="utf-8"):
            yield path


def find_rubric(name: str) -> Rubric:
    """A shipped rubric by its name, or a file. Raises UnknownNameError or DataError."""
    if name in rubric_names():
        return read_rubric(shipped_folder("judges") / f"{name}.yaml")
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or os.path.exists(path):
        return read_rubric(path)
    raise UnknownNameError("rubric (or a .yaml file)", name, rubric_names())


def read_rubric(path: Path) -> Rubric:
    """The rubric in a YAML file. Raises DataError that names the line."""
    if not path.is_file():
        raise DataError(f"rubric {str(path)!r}: no such file; give a YAML file or a shipped name")
    return _Reader(path).rubric(composed(path))


class _Reader(YamlReader):
    """A rubric from its nodes."""

    def rubric(self, root: yaml.Node | None) -> Rubric:
        if root is None:
            self.fail(None, "an empty file", "a rubric (judges/story.yaml is an example)")
        nodes = self.mapping(root, "a rubric")
        for name, (key, _) in nodes.items():
            if name not in _FIELDS:
                self.fail(key, f"field {name!r}", f"one of {', '.join(_FIELDS)}")
        for name, (what, needed) in _FIELDS.items():
            if needed and name not in nodes:
                self.fail(root, f"no field {name!r}", what)
        values = {name: node for name, (_, node) in nodes.items()}
        low, high = self._scale(values["scale"])
        dimensions = self._dimensions(values["dimensions"], low, high)
        primary = self.text(values["primary"], "primary")
        if primary not in [d.name for d in dimensions]:
            known = ", ".join(d.name for d in dimensions)
            self.fail(values["primary"], f"primary {primary!r}", f"one of {known}")
        name = self.text(values["name"], "name")
        if not _NAME.fullmatch(name):
            self.fail(values["name"], f"name {name!r}", _FIELDS["name"][0])
        return Rubric(
            name=name,
            version=self.whole(values["version"], "version", 1, 10**6),
            about=self.text(values["about"], "about"),
            tasks=self._texts(values["tasks"]) if "tasks" in values else (),
            text=self._word(values, "text", "text"),
            prompt=self._word(values, "prompt", "prompt"),
            low=low,
            high=high,
            instructions=self.text(values["instructions"], "instructions"),
            reason=self.flag(values["reason"], "reason") if "reason" in values else True,
            primary=primary,
            creative=self.flag(values["creative"], "creative") if "creative" in values else False,
            dimensions=dimensions,
            comparison=self.text(values["comparison"], "comparison"),
        )

    def _dimensions(self, node: yaml.Node, low: int, high: int) -> tuple[Dimension, ...]:
        found = []
        for name, (key, inner) in self.mapping(node, _FIELDS["dimensions"][0]).items():
            if not _NAME.fullmatch(name) or name == "reason":
                self.fail(key, f"dimension {name!r}", _FIELDS["name"][0] + ", not 'reason'")
            parts = self.mapping(inner, "question and levels")
            for part, (place, _) in parts.items():
                if part not in ("question", "levels"):
                    self.fail(place, f"field {part!r} of {name}", "question and levels")
            for part in ("question", "levels"):
                if part not in parts:
                    self.fail(inner, f"{name} without {part!r}", "question and levels")
            question = self.text(parts["question"][1], f"question of {name}")
            levels = self._levels(parts["levels"][1], name, low, high)
            found.append(Dimension(name, question, levels))
        if not found:
            self.fail(node, "no dimension", "one at least")
        return tuple(found)

    def _levels(self, node: yaml.Node, name: str, low: int, high: int) -> dict[int, str]:
        expected = f"score from {low} to {high} → text, with both ends"
        levels = {}
        for score, (key, text) in self.mapping(node, expected).items():
            number = self.whole(key, f"level {score!r} of {name}", low, high)
            if number in levels:
                self.fail(key, f"level {number} of {name} a second time", "every level once")
            levels[number] = self.text(text, f"level {number} of {name}")
        for end in (low, high):
            if end not in levels:
                self.fail(node, f"{name} without level {end}", expected)
        return levels

    def _scale(self, node: yaml.Node) -> tuple[int, int]:
        ends = self.mapping(node, _FIELDS["scale"][0])
        if set(ends) != {"low", "high"}:
            self.fail(node, f"scale with {', '.join(ends) or 'nothing'}", _FIELDS["scale"][0])
        low, high = (self.whole(ends[end][1], end, -999, 999) for end in ("low", "high"))
        if not 1 <= high - low <= _WIDEST:
            self.fail(node, f"scale from {low} to {high}", f"1 to {_WIDEST} steps")
        return low, high

    def _word(self, values: Mapping[str, yaml.Node], name: str, otherwise: str) -> str:
        return self.text(values[name], name) if name in values else otherwise

    def _texts(self, node: yaml.Node) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, shown_node(node), _FIELDS["tasks"][0])
        return tuple(self.text(item, "task") for item in node.value)
