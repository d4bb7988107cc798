"""Means of what happens in training, over micro-batches and processes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from psplit_train.sharing import Split

__all__ = ["Meters", "TrainingMeters", "gathered"]

_BITS = math.log(2)


class Meters:
    """Named means since they were last read; sums stay on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, values: torch.Tensor, where: torch.Tensor | None = None) -> None:
        """Count `values`, those `where` is true (default: all)."""
        values = values.detach().double()
        if where is None:
            where = torch.ones_like(values, dtype=torch.bool)
        total = torch.where(where, values, 0.0).sum()
        pair = torch.stack([total, where.sum().double()])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the seconds of a phase, as seconds a process and reading."""
        start = time.perf_counter()
        yield
        seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
        held = self._sums.get(name, torch.tensor([0.0, 1.0], dtype=torch.float64))
        self._sums[name] = held + torch.stack([seconds, torch.zeros_like(seconds)])

    def read(self) -> dict[str, float]:
        """The means over all processes; NaN where nothing was counted. Then all begin anew.

        Every process has to call this.
        """
        from accelerate.utils import gather_object

        merged: dict[str, torch.Tensor] = {}
        own = {name: pair.cpu() for name, pair in self._sums.items()}
        for sums in gather_object([own]):
            for name, pair in sums.items():
                merged[name] = merged.get(name, 0.0) + pair
        self._sums = {}
        return {
            name: float(total / count) if count else math.nan
            for name, (total, count) in sorted(merged.items())
        }


class TrainingMeters(Meters):
    """The means that training in modes is watched by.

    Names end with a mode (`reward/high`), with two modes of which the first is trained on what the
    second drew (`ratio/normal_high`), or, for `kl_bits/A_B`, with A and B of KL(A‖B).
    """

    def __init__(self, split: Split) -> None:
        super().__init__()
        self._split = split

    def rewards(
        self, rewards: torch.Tensor, answers: torch.Tensor, samplers: torch.Tensor, group: int
    ) -> None:
        """Rewards (R,) of all processes; `answers` are numbers of right ones, below 0 for none.

        reward: mean of a mode's own responses. unique: its right answers to a query that differ.
        dead_groups: share of queries all of whose rewards are equal.
        """
        by_query = rewards.view(-1, group)
        self.add("dead_groups", (by_query == by_query[:, :1]).all(1).float())
        for number, name in enumerate(self._split.names):
            own = samplers == number
            self.add(f"reward/{name}", rewards, own & ~rewards.isnan())
            drawn = answers[own].view(len(by_query), -1).tolist()
            unique = [len({answer for answer in row if answer >= 0}) for row in drawn]
            self.add(f"unique/{name}", torch.tensor(unique, dtype=torch.float))

    def bonus(
        self,
        etas: Sequence[float],
        tokens: torch.Tensor,
        size: torch.Tensor,
        clamped: torch.Tensor,
    ) -> None:
        """Of a bonus (M, R, T) over the tokens that a mode trains on: mean size, share clamped."""
        for number, name in enumerate(self._split.names):
            if etas[number]:
                self.add(f"bonus/{name}", size[number], tokens[number])
                self.add(f"clamped/{name}", clamped[number].float(), tokens[number])

    def policies(
        self,
        entropies: torch.Tensor,
        samplers: torch.Tensor,
        mask: torch.Tensor,
    ) -> None:
        """Over a mode's own tokens: entropy, and length."""
        for mode, name in enumerate(self._split.names):
            own = (samplers == mode)[:, None] & mask
            self.add(f"entropy_bits/{name}", entropies[mode] / _BITS, own)
            self.add(f"length/{name}", mask.sum(1).float(), samplers == mode)

    def divergences(
        self,
        log_probs: torch.Tensor,
        samplers: torch.Tensor,
        mask: torch.Tensor,
        scored: Sequence[Sequence[bool]],
    ) -> None:
        """KL between a mode and its reference, both ways, in bits a token of the mode's own;
        scored[m][s]: whether mode m's log-probabilities of responses of mode s are known."""
        names = self._split.names
        for a, b in self._pairs():
            if scored[b][a]:
                own = (samplers == a)[:, None] & mask
                self.add(
                    f"kl_bits/{names[a]}_{names[b]}", (log_probs[a] - log_probs[b]) / _BITS, own
                )

    def ratios(
        self,
        ratio: torch.Tensor,
        clipped: torch.Tensor,
        samplers: torch.Tensor,
        mask: torch.Tensor,
    ) -> None:
        """Importance ratios (M, R, T) by quarter, and the share of tokens that PPO's clip stops."""
        names = self._split.names
        for mode, takes in enumerate(self._split.takes):
            for sampler, taken in enumerate(takes):
                if taken:
                    where = (samplers == sampler)[:, None] & mask
                    quarter = f"{names[mode]}_{names[sampler]}"
                    self.add(f"ratio/{quarter}", ratio[mode], where)
                    self.add(f"clipped/{quarter}", clipped[mode].float(), where)

    def _pairs(self) -> list[tuple[int, int]]:
        ways = [(m, r) for m, r in enumerate(self._split.references) if m != r]
        return ways + [(r, m) for m, r in ways]


def gathered(accelerator: Any, values: torch.Tensor) -> torch.Tensor:
    """Rows (R, ...) of all processes, their last axis as long as the longest one's: 0 beyond."""
    sent = values.byte() if values.dtype == torch.bool else values  # padding makes bool int64
    if values.ndim > 1:
        sent = accelerator.pad_across_processes(sent, dim=values.ndim - 1)
    rows: torch.Tensor = accelerator.gather(sent)
    return rows.to(values.dtype)
