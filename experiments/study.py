"""What a study compares: arms, each a training config with settings on top, and their seeds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from experiments.records import record_path
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_train.config import Config, TinySettings, WarmupSettings
from psplit_train.keeping import read_requests
from psplit_train.loading import read_config
from psplit_train.names import setting_name
from psplit_train.sweep import Cell

__all__ = [
    "BASE",
    "MODES",
    "Ablation",
    "Arm",
    "CreativeSettings",
    "EvaluationSettings",
    "PromptSettings",
    "StartSettings",
    "Study",
    "digest",
    "read_study",
]

BASE = "base"
"""The arm that is not trained: the start of all others."""
MODES = ("normal", "high")
"""The modes that are compared; a study may train more."""

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Arm(_Section):
    """One way to train."""

    name: str
    """In tables and pictures."""
    seeds: Count = 3
    """Trainings, of seeds 0 to this less one; of `base`, which is not trained: evaluations."""
    main: bool = False
    """Whether it is in the main table, and its p-values in that table's correction."""
    settings: dict[str, str] = Field(default_factory=dict, alias="set")
    """On top of the study's config, as `--set` takes them."""


class StartSettings(_Section):
    """The weights that all arms start from: a tiny model or a checkpoint, after a warm-up under
    every prompt (of no steps: as it is)."""

    model: TinySettings | None = None
    """Made from nothing."""
    checkpoint: str | None = None
    """A folder, a hub id, or a name that psplit-eval knows, in place of a tiny model."""
    warmup: WarmupSettings = WarmupSettings()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.checkpoint is None):
            raise ValueError("expected either model or checkpoint; give one of them")
        return self


class PromptSettings(_Section):
    """System prompts that the start knows and no arm is trained on."""

    rewritten: str
    """Stands for the high mode's prompt in other words."""
    low: str
    """Stands for a prompt that asks for the opposite."""
    placebos: Annotated[tuple[str, ...], Field(min_length=1)]
    """Stand for prompts that ask for nothing."""


class EvaluationSettings(_Section):
    """How a training is measured."""

    steps: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Checkpoints that are evaluated; a value is the mean over them."""
    samples: Annotated[int, Field(ge=8)] = 32
    """A doc and mode; *best of 8* takes as many."""
    docs: Count | None = None
    """Of those held out, and of those trained on; None: as many as are held out."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """At which start and reference answer held-out docs again, in the normal mode and by the last
    checkpoint: a second mode has to be better than that. 1 is what all is evaluated at."""


class CreativeSettings(_Section):
    """Creative tasks that psplit-eval ships, answered in both modes by the start and by the last
    checkpoint of every training."""

    tasks: tuple[str, ...]
    samples: Count = 8
    """A doc and mode."""
    max_tokens: Count = 128
    """Of a response."""


class Ablation(_Section):
    """Arms that differ in one setting, beside each other."""

    title: str
    name: str | None = None
    """Of the plot's files; None: `by_` and the setting's last word."""
    setting: str
    """Of which each arm has a value; a plot is drawn where all are numbers."""
    arms: tuple[str, ...]

    @field_validator("setting")
    @classmethod
    def _whole_name(cls, setting: str) -> str:
        try:
            return ".".join(setting_name(setting))
        except UsageError as error:
            raise ValueError(str(error)) from error


class Study(_Section):
    """A question, and what is trained to answer it."""

    title: str
    about: str
    """In Markdown: what is asked, stated before it was run."""
    config: Path
    """Of the training, beside the study's file; `model.checkpoint` is the start."""
    start: StartSettings
    prompts: PromptSettings
    evaluate: EvaluationSettings
    creative: CreativeSettings | None = None
    reference: str
    """The arm that others are compared with."""
    candidates: tuple[str, ...]
    """The arms that the study's claims are about."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """The smallest loss of accuracy that would be minded."""
    arms: tuple[Arm, ...]
    ablations: tuple[Ablation, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [arm.name for arm in self.arms]
        _check_once("name", names)
        _check_once("record", [str(record_path(Path(), name, 0)) for name in names])
        _check_once("settings", [json.dumps(a.settings, sort_keys=True) for a in self.trained])
        told = (name for ablation in self.ablations for name in ablation.arms)
        for name in (self.reference, *self.candidates, *told):
            if name not in names:
                raise ValueError(str(UnknownNameError("arm", name, names)))
        if BASE in (self.reference, *self.candidates):
            raise ValueError(f"reference or candidate {BASE!r}: expected a trained arm")
        if any(arm.settings for arm in self.arms if arm.name == BASE):
            raise ValueError(f"arm {BASE!r}: expected no settings, as it is not trained")
        return self

    def arm(self, name: str) -> Arm:
        """By its name; raises UnknownNameError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise UnknownNameError("arm", name, [arm.name for arm in self.arms])

    @property
    def trained(self) -> tuple[Arm, ...]:
        """All arms but the base."""
        return tuple(arm for arm in self.arms if arm.name != BASE)

    def configured(self, arm: Arm, seed: int = 0) -> Config:
        """What an arm's training is given, but for its start."""
        given = [f"{name}={value}" for name, value in arm.settings.items()]
        return read_config(self.config, [*given, f"train.seed={seed}"])

    def digest(self, arm: Arm, seed: int) -> str:
        """That of an arm's training as the study asks for it now."""
        return digest(self.configured(arm, seed))

    def frame(self, arm: Arm) -> str:
        """SHA-256 (hex) of what else an arm's records depend on: start, prompts, which docs are
        answered when and how often, and the config's `model`. Defaults do not count; nor do
        temperatures and creative tasks, which may be added to. Of files it is what they say."""
        model, keep = self.configured(arm).model, self.start.warmup.keep
        template = model.chat_template
        given: dict[str, Any] = {"mode": "json", "exclude_unset": True}
        return _sha256(
            {
                "start": self.start.model_dump(
                    **given, exclude={"warmup": {"folder": True, "keep": {"requests"}}}
                ),
                "requests": read_requests(keep.requests) if keep else None,
                "prompts": self.prompts.model_dump(**given),
                "evaluate": self.evaluate.model_dump(**given, exclude={"temperatures"}),
                "model": model.model_dump(**given, exclude={"checkpoint", "chat_template"}),
                "chat_template": template.read_text(encoding="utf-8") if template else None,
            }
        )

    def check(self) -> None:
        """Raises DataError, in one line, for an arm that could be trained but not evaluated."""
        for arm in self.trained:
            for fault in self._faults(self.configured(arm)):
                raise DataError(f"study {self.title!r}, arm {arm.name!r}: {fault}")

    def _faults(self, config: Config) -> Iterator[str]:
        kept, modes = _kept_steps(config), [mode.name for mode in config.modes]
        for step in self.evaluate.steps:
            if step not in kept:
                yield (
                    f"evaluate.steps {step}: expected checkpoints that are kept "
                    f"({', '.join(map(str, kept))}); change it, or checkpoints.every and keep"
                )
        if not set(MODES) <= set(modes):
            wanted = " and ".join(MODES)
            yield f"modes {', '.join(modes)}: expected {wanted} among them; name two so"
        if config.data.task is None:
            yield "data: expected a generated task, whose answers can be counted; give data.task"

    def cells(self) -> Iterator[tuple[Arm, Cell]]:
        """Every training, those of the main table first, seed by seed."""
        ranked = sorted(self.trained, key=lambda arm: not arm.main)
        for main in (True, False):
            group = [arm for arm in ranked if arm.main is main]
            for seed in range(max((arm.seeds for arm in group), default=0)):
                yield from ((arm, Cell(arm.settings, seed)) for arm in group if seed < arm.seeds)


def read_study(path: Path) -> Study:
    """From a YAML file; its paths become paths from here. Raises DataError in one line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        study = Study.model_validate(content)
    except OSError as error:
        raise DataError(f"study {str(path)!r}: {error.strerror}; give an existing file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"study {str(path)!r}: not YAML in UTF-8; correct it") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "study"
        raise DataError(f"study {str(path)!r}: {where}: {first['msg']}; correct it") from error
    start = _found_from(path.parent, study.start)
    return study.model_copy(update={"config": path.parent / study.config, "start": start})


def _found_from(folder: Path, start: StartSettings) -> StartSettings:
    keep = start.warmup.keep
    if keep is None:
        return start
    kept = keep.model_copy(update={"requests": folder / keep.requests})
    warmup = start.warmup.model_copy(update={"keep": kept})
    return start.model_copy(update={"warmup": warmup})


def digest(config: Config) -> str:
    """SHA-256 (hex) of all that a training was given, but for where its start lies. Defaults do not
    count, so a new setting leaves old records as they are."""
    return _sha256(config.model_dump(mode="json", exclude_unset=True, exclude={"model"}))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _kept_steps(config: Config) -> list[int]:
    """Checkpoints that are there when a training is over; one is always written at its end."""
    last, every = config.train.steps, config.checkpoints.every or config.train.steps
    return sorted({*range(every, last, every), last})[-config.checkpoints.keep :]


def _check_once(what: str, given: Sequence[str]) -> None:
    value, count = Counter(given).most_common(1)[0] if given else ("", 0)
    if count > 1:
        raise ValueError(f"arms: {what} {value!r} {count} times, expected each once")
