"""A config file, and settings of the command line on top: YAML to `Config`, complaints by line.

A file may build on another one (`base: other.yaml`): what it says itself comes first. Naming
another method starts from that method's own settings, and another source of data or weights takes
the place of the first one. Relative paths are relative to the file that has them; those of `--set`
to the folder that the command is given in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from psplit_eval.errors import DataError, UsageError
from psplit_eval.files import write_text
from psplit_eval.text import one_line, shortened
from psplit_eval.yamlfile import YamlReader, composed, shown_node
from psplit_train.checks import check_config
from psplit_train.config import Config, MethodSettings, ModeSettings
from psplit_train.names import FREE, MODES, Name, guess, names, paths, setting_name

__all__ = [
    "config_dict",
    "config_text",
    "differences",
    "list_values",
    "read_config",
    "write_config",
]

_Section = TypeVar("_Section", bound=BaseModel)
_PATHS = frozenset((*paths(Config), ("data", "against")))
_INSTEAD: Mapping[Name, tuple[str, ...]] = {
    ("data",): ("task", "file", "hub", "subset"),
    ("model",): ("checkpoint", "tiny"),
}
"""Giving one of these takes those away that a file below gave."""
_NULL = ("", "~", "null", "Null", "NULL")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(\.inf|([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?)")
_DEEPEST = 20
_WANTED: Mapping[str, str] = {
    "bool": "true or false",
    "dict": "names with values",
    "finite": "a finite number",
    "float": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "list": "a list, such as [a, b]",
    "literal_error": "{expected}",
    "model": "settings of its own, such as {{name: value}}",
    "path": "a path",
    "string": "a text",
    "tuple": "a list, such as [a, b]",
}
"""What pydantic expected, by the beginning of its error's type; the longest one that fits."""


@dataclass(frozen=True)
class _Setting:
    """A value (text, None, or settings by name, or a list of some), and where it stands."""

    value: Any
    place: str
    named: str = ""
    """Where its name stands."""

    def at(self, name: Sequence[object]) -> tuple[_Setting, int]:
        """The setting of a name, or the last one on the way to it; how many steps were found."""
        here, steps = self, 0
        for part in name:
            inside = here.value
            known = inside if isinstance(inside, dict) else dict(enumerate(_listed(inside)))
            if part not in known:
                break
            here, steps = known[part], steps + 1
        return here, steps

    def plain(self) -> Any:
        """Without places."""
        if isinstance(self.value, dict):
            return {name: inside.plain() for name, inside in self.value.items()}
        if isinstance(self.value, list):
            return [inside.plain() for inside in self.value]
        return self.value


def read_config(path: Path, sets: Sequence[str] = ()) -> Config:
    """The settings in a YAML file, with `sets` ("name=value") on top; nothing is left open: modes
    have their prompts and roles, paths are absolute.

    Raises DataError: one line with the file and line (or the option), what is there, what was
    expected.
    """
    given = [_of_option(text) for text in sets]
    layer = _Setting({}, "")  # one for all of them: their order does not matter
    for name, setting in given:
        if len(name) == 1 or name[0] != MODES:
            layer = _over(layer, _nested(name, setting), same=True)
    settings = _over(_of_file(path, ()), layer)
    for name, setting in given:
        if len(name) > 1 and name[0] == MODES:
            settings = _in_mode(settings, name, setting)
    return _checked(settings)


def config_dict(config: Config) -> dict[str, Any]:
    """Every setting, the defaults too, as YAML and JSON have values. Two configs mean the same
    run if these are equal."""
    return _resolved(config).model_dump(mode="json")


def config_text(config: Config) -> str:
    """The same as YAML; `read_config` reads it back equal."""
    return yaml.dump(
        config_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def write_config(config: Config, path: Path) -> None:
    """Write `config_text` in one step. Raises InfrastructureError."""
    write_text(path, config_text(config))


def differences(before: Config, after: Config) -> list[str]:
    """Settings in which two configs differ, such as 'train.steps: 300, now 400'."""
    first, second = _flat(config_dict(before)), _flat(config_dict(after))
    return [
        f"{name}: {_said(first, name)}, now {_said(second, name)}"
        for name in dict.fromkeys((*first, *second))
        if first.get(name, _NULL) != second.get(name, _NULL)
    ]


def _flat(settings: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{inside}{name}.")
        else:
            found[f"{inside}{name}"] = value
    return found


def _said(settings: Mapping[str, Any], name: str) -> str:
    return shortened(settings[name], 60) if settings.get(name) is not None else "none"


def list_values(sets: Sequence[str]) -> dict[str, list[str]]:
    """Whole name → its values, of `eta=0.01,0.03`; a value may be a list or mapping of YAML.

    Raises DataError for what `read_config` would not take as a name, and for no or equal values.
    """
    found: dict[str, list[str]] = {}
    for text in sets:
        _of_option(f"{text.partition('=')[0]}{'=' if '=' in text else ''}")
        named, _, values = text.partition("=")
        listed = f"[{values}]"
        try:
            node = yaml.compose(listed, yaml.SafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(
                f"--set {shortened(text, 60)}: no list of values; correct it"
            ) from error
        nodes = node.value if isinstance(node, yaml.SequenceNode) else []
        parts = [listed[one.start_mark.index : one.end_mark.index] for one in nodes]
        name = ".".join(setting_name(named.strip()))
        if not parts or len(set(parts)) < len(parts) or name in found:
            raise DataError(
                f"--set {shortened(text, 60)}: expected values that differ, of a setting that is "
                "given once; correct it"
            )
        found[name] = parts
    return found


class _Reader(YamlReader):
    """Settings out of nodes. `option`: the text of a `--set`, in place of a file's lines."""

    def __init__(self, path: Path, option: str | None = None) -> None:
        super().__init__(path)
        self.file, self._option = path, option
        self._folder = Path.cwd() if option is not None else path.absolute().parent

    def place(self, node: yaml.Node | None) -> str:
        if self._option is not None:
            return f"--set {shortened(self._option, 60)}"
        return f"{self.file}, line {node.start_mark.line + 1 if node else 1}"

    def fail(self, node: yaml.Node | None, found: str, expected: str) -> NoReturn:
        raise DataError(f"{self.place(node)}: {found}, expected {expected}; correct it")

    def setting(self, node: yaml.Node, name: Name = ()) -> _Setting:
        if len(name) > _DEEPEST:
            self.fail(node, "settings inside one another without end", "a few levels")
        place = self.place(node)
        if isinstance(node, yaml.MappingNode):
            fields = self.mapping(node, "settings by name")
            inside = {
                one: replace(self.setting(value, (*name, one)), named=self.place(key))
                for one, (key, value) in fields.items()
            }
            return _Setting(inside, place)
        if isinstance(node, yaml.SequenceNode):
            return _Setting([self.setting(item, (*name, "")) for item in node.value], place)
        if name == ("method",) and not _is_null(node):  # method: grpo
            return _Setting({"name": _Setting(str(node.value), place)}, place)
        return _Setting(self._scalar(node, name), place)

    def _scalar(self, node: yaml.Node, name: Name) -> Any:
        """A text, which pydantic makes a number of where one is meant, so that 3e-6 is one."""
        if _is_null(node):
            return None
        text = str(node.value)
        if any(name[: len(free)] == free for free in FREE):
            return _typed(text) if _is_plain(node) else text
        if name in _PATHS or name[:-1] in _PATHS:
            return self.within(text)
        return self._checkpoint(text) if name == ("model", "checkpoint") else text

    def _checkpoint(self, text: str) -> str:
        """A folder, or else a hub id or a name that psplit knows."""
        path = self.within(text)
        return path if Path(path).is_dir() or text.startswith((".", "~", "/")) else text

    def within(self, text: str) -> str:
        return os.path.abspath(self._folder / Path(text).expanduser())


def _is_plain(node: yaml.Node) -> bool:
    """Without quotes."""
    return isinstance(node, yaml.ScalarNode) and not node.style


def _is_null(node: yaml.Node) -> bool:
    return _is_plain(node) and node.value in _NULL


def _typed(text: str) -> Any:
    """A plain word of YAML as what it looks like: true, 12, 3e-6, text."""
    if text in _NULL:
        return None
    if text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text.replace(".inf", "inf")) if _NUMBER.fullmatch(text) else text


def _of_file(path: Path, above: tuple[Path, ...]) -> _Setting:
    """The settings of a file, on top of those that it builds on."""
    if not path.is_file():
        raise DataError(f"config {str(path)!r}: no such file; give a YAML file of settings")
    node, reader = composed(path), _Reader(path)
    if node is None:
        reader.fail(None, "an empty file", "settings (configs/demo.yaml has some)")
    if not isinstance(node, yaml.MappingNode):
        reader.fail(node, shown_node(node), "settings by name (configs/demo.yaml has some)")
    settings = reader.setting(node)
    base = settings.value.pop("base", None)
    if base is None:
        return settings
    below = Path(reader.within(base.value)) if isinstance(base.value, str) else path
    above = (*above, path.resolve())
    if below.resolve() in above or not below.is_file():
        shown = repr(base.value) if isinstance(base.value, str) else "no text"
        raise DataError(
            f"{base.place}: base {shown}, expected a file that exists and does not build on this "
            "one; correct it"
        )
    return _over(_of_file(below, above), settings)


def _of_option(text: str) -> tuple[Name, _Setting]:
    """`name=value`, the value as YAML."""
    named, equals, value = text.partition("=")
    shown = f"--set {shortened(text, 60)}"
    if not equals or not named.strip():
        raise DataError(f"{shown}: expected NAME=VALUE, such as eta=0.1; correct it")
    try:
        name = setting_name(named.strip())
    except UsageError as error:
        raise DataError(f"{shown}: {error}") from error
    reader = _Reader(Path(), text)
    try:
        node = yaml.compose(value, yaml.SafeLoader) or yaml.ScalarNode("", "", style=None)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = one_line(getattr(error, "problem", None) or "no YAML")
        raise DataError(f"{shown}: {problem}, expected a value as in a file; correct it") from error
    return name, reader.setting(node, name)


def _nested(name: Name, setting: _Setting) -> _Setting:
    for part in reversed(name):
        setting = _Setting({part: replace(setting, named=setting.place)}, setting.place)
    return setting


def _over(under: _Setting, over: _Setting, name: Name = (), same: bool = False) -> _Setting:
    """Settings with others on top. `same`: both were given at once, so none takes others away."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    kept = under.value if same else _left(under.value, over.value, name)
    both = {
        one: _over(kept[one], setting, (*name, one), same) if one in kept else setting
        for one, setting in over.value.items()
    }
    return replace(over, value={**kept, **both}, place=over.place or under.place)


def _left(under: dict[str, _Setting], over: dict[str, _Setting], name: Name) -> dict[str, _Setting]:
    """What stays of a section when others come on top."""
    if name == ("method",) and "name" in over:
        before = under["name"].value if "name" in under else MethodSettings().name
        return under if before == over["name"].value else {}
    instead = _INSTEAD.get(name, ())
    given = any(one in over and over[one].value is not None for one in instead)
    return {one: value for one, value in under.items() if not (given and one in instead)}


def _in_mode(settings: _Setting, name: Name, setting: _Setting) -> _Setting:
    """`modes.high.eta=0.1`: a setting of one of the modes."""
    _, mode, one = name
    default = _Setting([_Setting(each.name, "") for each in Config.model_fields[MODES].default], "")
    given = _listed(settings.value.get(MODES, default).value)
    modes = [_nested(("name",), each) if isinstance(each.value, str) else each for each in given]
    known = [str(each.at(("name",))[0].value) for each in modes]
    if mode not in known:
        listed = ", ".join(known)
        raise DataError(
            f"{setting.place}: mode {mode!r}, expected one of {listed}; correct the name"
        )
    at = known.index(mode)
    modes[at] = _over(modes[at], _nested((one,), setting), same=True)
    return replace(settings, value={**settings.value, MODES: _Setting(modes, setting.place)})


def _checked(settings: _Setting) -> Config:
    try:
        config = Config.model_validate(settings.plain())
    except ValidationError as error:
        raise DataError(_complaint(settings, error)) from error
    for number, mode in enumerate(config.modes):
        try:
            mode.mode()
        except UsageError as error:
            raise DataError(f"{settings.at((MODES, number))[0].place}: {error}") from error
    try:
        check_config(config)
    except UsageError as error:
        raise DataError(_of_check(settings, (), str(error))) from error
    return _resolved(config)


def _resolved(config: Config) -> Config:
    """With what defaults stand for: another version of psplit may have other built-in prompts."""
    modes = tuple(
        mode.model_copy(update={"system_prompt": known.system_prompt, "role": known.role})
        for mode, known in ((mode, mode.mode()) for mode in config.modes)
    )
    return _absolute(config.model_copy(update={MODES: modes}))


def _absolute(section: _Section) -> _Section:
    """With whole paths."""
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            changed[name] = value.absolute()
        elif isinstance(value, BaseModel):
            changed[name] = _absolute(value)
    return section.model_copy(update=changed)


def _complaint(settings: _Setting, error: ValidationError) -> str:
    """One line for the first thing that is wrong; a name that is misspelt comes before all else."""
    errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = errors[0]
    here, steps = settings.at(first["loc"])
    name = first["loc"][:steps]
    if first["type"] == "extra_forbidden":
        return f"{here.named}: {_unknown(name)}"
    if first["type"] == "missing":
        return f"{here.place}: no {_dotted(first['loc'])!r}, expected one; add it"
    if first["type"] == "value_error":
        return _of_check(here, name, str(first["ctx"]["error"]))
    wanted = [_wanted(one) for one in errors if settings.at(one["loc"])[0] is here]
    expected = " or ".join(dict.fromkeys(wanted))
    return f"{here.place}: {_dotted(name)} {_shown(here.value)}, expected {expected}; correct it"


def _unknown(name: Sequence[Any]) -> str:
    section = tuple(name[:-1])
    known = names(ModeSettings, section) if section[:1] == (MODES,) else names(Config)
    every = list(known)
    listed = ", ".join(one[-1] for one in every if one[:-1] == section)
    hint = guess(str(name[-1]), section, every) or f": known are {listed}"
    return f"unknown setting {_dotted(name)!r}{hint}; correct the name"


def _of_check(here: _Setting, name: Sequence[Any], message: str) -> str:
    """A complaint of config's own checks, at the setting that it begins with or quotes."""
    begin = message.split()[0].rstrip(":")
    there = here.at((MODES,) if begin in ("mode", MODES) else begin.split("."))[0]
    place = next((each.place for each in _texts(there) if repr(each.value) in message), there.place)
    return f"{place}: {_dotted(name)}{': ' if name else ''}{message}"


def _listed(value: Any) -> list[_Setting]:
    return value if isinstance(value, list) else []


def _texts(setting: _Setting) -> Iterator[_Setting]:
    inside = setting.value
    if isinstance(inside, str):
        yield setting
    for each in inside.values() if isinstance(inside, dict) else _listed(inside):
        yield from _texts(each)


def _wanted(error: Any) -> str:
    kind = max((each for each in _WANTED if error["type"].startswith(each)), key=len, default="")
    context = error.get("ctx", {})
    return _WANTED[kind].format(**context) if kind else one_line(error["msg"])


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "(empty)" if value is None else repr(shortened(value, 40))


def _dotted(name: Sequence[Any]) -> str:
    """`modes[2].eta` of ('modes', 1, 'eta')."""
    parts = "".join(f"[{one + 1}]" if isinstance(one, int) else f".{one}" for one in name)
    return parts.removeprefix(".")


class _Dumper(yaml.SafeDumper):
    """Quotes texts that `read_config` would take for something else."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _typed(text) is not text or not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)
