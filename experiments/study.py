"""What a study compares: arms, each a training config with settings on top, and their seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from psplit_eval.errors import DataError, UnknownNameError
from psplit_train.config import Config, TinySettings, WarmupSettings
from psplit_train.loading import read_config
from psplit_train.sweep import Cell

__all__ = [
    "BASE",
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
    placebos: tuple[str, ...]
    """Stand for prompts that ask for nothing."""


class EvaluationSettings(_Section):
    """How a training is measured."""

    steps: tuple[Count, ...]
    """Checkpoints that are evaluated; a value is the mean over them."""
    samples: Count = 32
    """A doc and mode."""
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
        if len(set(names)) < len(names):
            raise ValueError(f"arms {', '.join(names)}: expected each name once")
        told = (name for ablation in self.ablations for name in ablation.arms)
        for name in (self.reference, *self.candidates, *told):
            if name not in names:
                raise ValueError(str(UnknownNameError("arm", name, names)))
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
    except yaml.YAMLError as error:
        raise DataError(f"study {str(path)!r}: not YAML; correct it") from error
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
    given = config.model_dump(mode="json", exclude_unset=True, exclude={"model"})
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
