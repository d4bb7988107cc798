"""The order of prompts, which a run that goes on has to find again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from trl.trainer.utils import RepeatSampler

__all__ = ["EpochSampler"]


class EpochSampler(Sampler[int]):
    """The order that TRL's sampler has in an epoch, whether or not it was asked for those before.

    TRL's shuffles by a generator that goes on from epoch to epoch, and that no checkpoint holds:
    a resumed run would begin with the first epoch's order again. `epoch` is asked at the start of
    each: 0 for the first.
    """

    def __init__(self, sampler: RepeatSampler, epoch: Callable[[], int]) -> None:
        self._sampler, self._epoch = sampler, epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        if self._sampler.shuffle:
            self._sampler.generator.manual_seed(self._sampler.seed)
            for _ in range(self._epoch()):
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        return iter(self._sampler)
