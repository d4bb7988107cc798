"""Rules of a gate, from YAML: what a checkpoint must do to pass.

A bad file gets an error that names the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import yaml

from psplit_eval.errors import DataError
from psplit_eval.protocol import Estimand
from psplit_eval.suites import SUITES
from psplit_eval.yamlfile import YamlReader, composed

__all__ = ["Falls", "Kind", "Rule", "Rules", "read_rules"]


class Kind(Enum):
    """What a rule claims; docs/gates.md has each with its test."""

    NON_INFERIOR = "non-inferior"
    """The candidate is not worse than the baseline by the margin or more."""
    SUPERIOR = "superior"
    """It is better by more than the margin (by default 0)."""
    EQUAL = "equal"
    """It is neither better nor worse by the margin or more."""
    AT_LEAST = "at-least"
    """Its own value is above the bound."""
    AT_MOST = "at-most"
    """Its own value is below the bound."""
    SPLIT = "split"
    """Its mode is a policy of its own beside the reference mode."""

    @property
    def bounded(self) -> bool:
        """Whether it is about the candidate's own value."""
        return self in (Kind.AT_LEAST, Kind.AT_MOST)


class Falls(Enum):
    """Which way a gate falls that is inconclusive."""

    OPEN = "pass"
    SHUT = "fail"
    SAID = "report"
    """Exit code 3."""


@dataclass(frozen=True)
class Rule:
    """One rule of a file, at its `line`.

    `task` or `suite` ('' both: of the whole run, for splits). `metric` '': the one that decides the
    task. `margin`: a fraction, or in the metric's unit where that is another; of a judge's scores a
    fraction of the scale. `judge`, `rubric` and `dimension` are of rules on judges.
    """

    line: int
    name: str
    kind: Kind
    modes: tuple[str, ...]
    task: str = ""
    suite: str = ""
    metric: str = ""
    margin: float = 0.0
    bound: float = 0.0
    judge: str = ""
    rubric: str = ""
    dimension: str = ""


@dataclass(frozen=True)
class Rules:
    """All rules of a file. `alpha`: chance that any of them is wrongly called a regression, and
    that any is wrongly called fulfilled; over all rules (Holm)."""

    path: Path
    rules: tuple[Rule, ...]
    alpha: float = 0.05
    estimand: Estimand = Estimand.SAMPLE
    falls: Falls = Falls.SAID


_FILE: Mapping[str, tuple[str, bool]] = {
    "format": ("1", True),
    "alpha": ("a number above 0 and below 1", False),
    "docs": ("sample or given", False),
    "inconclusive": ("report, pass or fail", False),
    "rules": ("a list of rules", True),
}
_RULE: Mapping[str, str] = {
    "name": "what the rule is called",
    "kind": "what is claimed",
    "task": "a task of both runs",
    "suite": "a suite, for every task of it that both runs have",
    "metric": "a metric of the task; the one that decides it, if there is none",
    "mode": "a mode, or a list of modes",
    "margin": "how much may be lost, or has to be gained: 0.02 is two points",
    "bound": "what the candidate's own value must reach, or stay below",
    "judge": "a judge of both runs",
    "rubric": "the judge's rubric",
    "dimension": "a dimension of the rubric",
}
_DOCS = {"sample": Estimand.SAMPLE, "given": Estimand.GIVEN}
_WIDEST = 1e6


def read_rules(path: Path) -> Rules:
    """The rules in a YAML file. Raises DataError that names the line."""
    if not path.is_file():
        raise DataError(f"rules {str(path)!r}: no such file; give a YAML file of rules")
    return _Reader(path).rules(composed(path))


class _Reader(YamlReader):
    def rules(self, root: yaml.Node | None) -> Rules:
        if root is None:
            self.fail(None, "an empty file", "rules (examples/ci/gate.yaml has some)")
        nodes = self.mapping(root, "rules")
        for name, (key, _) in nodes.items():
            if name not in _FILE:
                self.fail(key, f"field {name!r}", f"one of {', '.join(_FILE)}")
        for name, (what, needed) in _FILE.items():
            if needed and name not in nodes:
                self.fail(root, f"no field {name!r}", what)
        values = {name: node for name, (_, node) in nodes.items()}
        self.whole(values["format"], "format", 1, 1)
        rules = tuple(map(self._rule, self.items(values["rules"], _FILE["rules"][0])))
        self._check_names(rules, values["rules"])
        docs = self._word(values, "docs", _DOCS, "sample")
        falls = self._word(values, "inconclusive", [each.value for each in Falls], "report")
        return Rules(self._path, rules, self._alpha(values), _DOCS[docs], Falls(falls))

    def _word(
        self, values: Mapping[str, yaml.Node], name: str, known: Iterable[str], otherwise: str
    ) -> str:
        return self.one_of(values[name], name, known) if name in values else otherwise

    def _alpha(self, values: Mapping[str, yaml.Node]) -> float:
        if "alpha" not in values:
            return 0.05
        return self.number(values["alpha"], "alpha", 1e-6, 0.5)

    def _check_names(self, rules: tuple[Rule, ...], node: yaml.Node) -> None:
        seen: set[str] = set()
        for rule, place in zip(rules, self.items(node, ""), strict=True):
            if rule.name in seen:
                self.fail(place, f"name {rule.name!r} a second time", "every name once")
            seen.add(rule.name)

    def _rule(self, node: yaml.Node) -> Rule:
        fields = self.mapping(node, "a rule, such as {task: psplit_gsm8k, mode: normal, ...}")
        for name, (key, _) in fields.items():
            if name not in _RULE:
                self.fail(key, f"field {name!r}", f"one of {', '.join(_RULE)}")
        values = {name: value for name, (_, value) in fields.items()}
        if "kind" not in values:
            self.fail(node, "a rule without 'kind'", f"one of {', '.join(k.value for k in Kind)}")
        kind = Kind(self.one_of(values["kind"], "kind", [each.value for each in Kind]))
        self._check_fields(node, kind, fields)
        texts: dict[str, str] = {
            name: self.text(values[name], name)
            for name in ("task", "suite", "metric", "judge", "rubric", "dimension")
            if name in values
        }
        if "suite" in values:
            self.one_of(values["suite"], "suite", SUITES)
        margin = self.number(values["margin"], "margin", 0, _WIDEST) if "margin" in values else 0.0
        if "margin" in values and margin == 0 and kind is not Kind.SUPERIOR:
            self.fail(values["margin"], "margin 0", "one above 0: no data show exact equality")
        bound = self.number(values["bound"], "bound", -_WIDEST, _WIDEST) if kind.bounded else 0.0
        modes = tuple(self._modes(values["mode"]))
        name = self.text(values["name"], "name") if "name" in values else _named(kind, texts, modes)
        name = " ".join(name.split())
        return Rule(
            node.start_mark.line + 1, name, kind, modes, margin=margin, bound=bound, **texts
        )

    def _check_fields(
        self, node: yaml.Node, kind: Kind, fields: Mapping[str, tuple[yaml.Node, yaml.Node]]
    ) -> None:
        """Fields that a kind needs, and those that say nothing there."""
        of_judge = "judge" in fields
        needed, allowed = {"mode"}, {"name", "kind", "mode"}
        if kind is not Kind.SPLIT:
            allowed |= {"task", "suite"}
            allowed |= {"bound"} if kind.bounded else {"margin"}
            needed |= {"bound"} if kind.bounded else set()
            needed |= {"margin"} if kind in (Kind.NON_INFERIOR, Kind.EQUAL) else set()
            allowed |= {"judge", "rubric", "dimension"} if of_judge else {"metric"}
            needed |= {"rubric", "dimension"} if of_judge else set()
        for name, (key, _) in fields.items():
            if name not in allowed:
                said = f"field {name!r} in a rule of kind {kind.value}"
                self.fail(key, said, f"one of {', '.join(n for n in _RULE if n in allowed)}")
        for name in sorted(needed - fields.keys()):
            self.fail(node, f"a rule of kind {kind.value} without {name!r}", _RULE[name])
        if kind is not Kind.SPLIT and ("task" in fields) == ("suite" in fields):
            self.fail(node, f"a rule of kind {kind.value}", "either 'task' or 'suite'")

    def _modes(self, node: yaml.Node) -> Iterator[str]:
        one = not isinstance(node, yaml.SequenceNode)
        seen: set[str] = set()
        for item in [node] if one else self.items(node, _RULE["mode"]):
            mode = self.text(item, "mode")
            if mode in seen:
                self.fail(item, f"mode {mode!r} a second time", "every mode once")
            seen.add(mode)
            yield mode


def _named(kind: Kind, texts: Mapping[str, str], modes: tuple[str, ...]) -> str:
    parts = [texts.get(name, "") for name in ("task", "suite", "metric", "judge", "dimension")]
    return " ".join(part for part in (*parts, ", ".join(modes), kind.value) if part)
