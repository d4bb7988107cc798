"""What goes wrong in training, named as it happens; and controllers of entropy.

Both see the numbers of the training log alone: no torch, no model. Both can be saved and go on
exactly where they were.

A series is watched once it has a full window, and by means over windows. What a step does not
know (missing, NaN, infinite) is left out: it is no alarm, and moves no window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from psplit_train.config import AlarmSettings, ControllerSettings

__all__ = ["LEAST_ENTROPY_BITS", "LEAST_FALL", "Alarm", "EntropyController", "Monitor"]

LEAST_ENTROPY_BITS = 0.1
"""Inflation counts from this, where a mode starts with less: four times next to nothing is still
next to nothing."""
LEAST_FALL = 6.0
"""A reward has to fall by so many standard errors of the two windows: of rare rewards, half can
be gone by chance. Steady rewards of .02 to .1 from 32 to 128 rollouts gave an alarm within 600
steps in 13 to 100 % of simulated runs without this, and in under 1 % with it."""


@dataclass(frozen=True)
class Alarm:
    """One thing that goes wrong; as text it is one line."""

    name: str
    """inflation, collapse, runaway or dead."""
    metric: str
    """Its name in the log: entropy_bits/high, say."""
    step: int
    value: float
    """Mean of the last window."""
    limit: float
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass
class _Series:
    """A metric: its last window, and what it was before."""

    recent: deque[float]
    start: float | None = None
    """Mean of the first full window."""
    best: tuple[float, float] | None = None
    """Highest mean of a full window, and its standard error."""
    silent: int = 0
    """So many values has its alarm to be off before it may ring again."""

    @property
    def mean(self) -> float:
        return fmean(self.recent)

    @property
    def error(self) -> float:
        if len(self.recent) < 2:
            return 0.0
        return stdev(self.recent) / math.sqrt(len(self.recent))

    def add(self, value: float) -> bool:
        """Whether there is a full window now."""
        self.recent.append(value)
        if len(self.recent) < (self.recent.maxlen or 0):
            return False
        if self.start is None:
            self.start = self.mean
        if self.best is None or self.mean > self.best[0]:
            self.best = (self.mean, self.error)
        return True


@dataclass(frozen=True)
class _Finding:
    """A window's value against its limit; whether it is beyond it; the sentence about it."""

    name: str
    limit: float
    beyond: bool
    what: str


@dataclass
class Monitor:
    """Watches the modes of one run.

    `references` names the mode that a mode's KL is taken to, both ways; None: the first mode is
    that of all others. A window is `settings.window` values of a metric: steps, where each is
    logged.

    - inflation: a mode's entropy is above entropy_factor times its mean in the first window, or
      LEAST_ENTROPY_BITS where that is more. There is nothing to compare with before the first
      window has passed, and a window that overlaps it can only hide inflation.
    - collapse: a mode's reward is below collapse_share of its best window, and has fallen by
      LEAST_FALL standard errors. Rewards that were never above 0 cannot collapse.
    - runaway: the KL between a mode and its reference is above kl_bits, from the first window on.
    - dead: in at least dead_share of the groups all rewards are equal, from the first window on;
      with a limit on the bonus such groups teach nothing. They are all wrong (at the start) or
      all right (at the end), so the mean reward is told.

    An alarm is given when it begins. It is given again where it begins anew after it was off for a
    window.
    """

    settings: AlarmSettings
    modes: Sequence[str]
    references: Mapping[str, str] | None = None
    _series: dict[str, _Series] = field(default_factory=dict, init=False)

    def observe(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """What begins to go wrong at this step, by the log's names; others are not looked at."""
        watched = self._watched()
        full = [name for name in watched if self._add(name, metrics.get(name))]
        alarms = (self._ring(step, name, self._judge(watched[name], name)) for name in full)
        return [alarm for alarm in alarms if alarm is not None]

    def state(self) -> dict[str, Any]:
        """All that it remembers, as JSON can hold it."""
        return {
            name: {
                "recent": list(series.recent),
                "start": series.start,
                "best": series.best and list(series.best),
                "silent": series.silent,
            }
            for name, series in self._series.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; of windows longer than the settings' only the end counts."""
        self._series = {
            name: _Series(
                deque(saved["recent"], self.settings.window),
                saved["start"],
                saved["best"] and (saved["best"][0], saved["best"][1]),
                saved["silent"],
            )
            for name, saved in state.items()
        }

    def _watched(self) -> dict[str, str]:
        """Metric → what is looked at in it: a mode, 'A‖B' of two modes, or '' for the run."""
        pairs = [pair for mode in self.modes for pair in self._pairs(mode)]
        return {
            "dead_groups": "",
            **{f"entropy_bits/{mode}": mode for mode in self.modes},
            **{f"reward/{mode}": mode for mode in self.modes},
            **{f"kl_bits/{a}_{b}": f"{a}‖{b}" for a, b in pairs},
        }

    def _pairs(self, mode: str) -> list[tuple[str, str]]:
        chosen = self.references or {}
        reference = chosen.get(mode, self.modes[0])
        return [(mode, reference), (reference, mode)] if reference != mode else []

    def _add(self, name: str, value: float | None) -> bool:
        """Whether the metric has a new value and a full window."""
        if value is None or not math.isfinite(value):
            return False
        if name not in self._series:
            self._series[name] = _Series(deque(maxlen=self.settings.window))
        return self._series[name].add(float(value))

    def _judge(self, subject: str, name: str) -> _Finding | None:
        kind = name.split("/")[0]
        series = self._series[name]
        if kind == "entropy_bits":
            return self._inflation(subject, series)
        if kind == "reward":
            return self._collapse(subject, series)
        return self._runaway(subject, series) if kind == "kl_bits" else self._dead(series)

    def _ring(self, step: int, name: str, finding: _Finding | None) -> Alarm | None:
        series = self._series[name]
        if finding is None or not finding.beyond:
            series.silent = max(0, series.silent - 1)
            return None
        silent, series.silent = series.silent, self.settings.window
        if silent:
            return None
        message = f"step {step}: {finding.name}: {finding.what}"
        return Alarm(finding.name, name, step, series.mean, finding.limit, message)

    def _window(self) -> str:
        return f"a mean over {self.settings.window} steps"

    def _inflation(self, mode: str, series: _Series) -> _Finding | None:
        factor = self.settings.entropy_factor
        if factor is None or series.start is None:
            return None
        base = max(series.start, LEAST_ENTROPY_BITS)
        limit = factor * base
        what = (
            f"the entropy of mode {mode!r} is {series.mean:.3g} bits a token ({self._window()}), "
            f"above {limit:.3g} ({factor:g} times its start of {_at_least(series.start, base)}); "
            "lower eta, set kappa above 0, or give stability.controller a target"
        )
        return _Finding("inflation", limit, series.mean > limit, what)

    def _collapse(self, mode: str, series: _Series) -> _Finding | None:
        share = self.settings.collapse_share
        if share is None or series.best is None or series.best[0] <= 0:
            return None
        best, error = series.best
        limit = share * best
        fall = LEAST_FALL * math.hypot(error, series.error)
        what = (
            f"the reward of mode {mode!r} is {series.mean:.3g} ({self._window()}), below "
            f"{limit:.3g} ({share:g} of its best, {best:.3g}); go back to a checkpoint before, "
            "with a lower learning_rate or eta"
        )
        return _Finding("collapse", limit, series.mean < min(limit, best - fall), what)

    def _runaway(self, pair: str, series: _Series) -> _Finding | None:
        limit = self.settings.kl_bits
        if limit is None:
            return None
        what = (
            f"KL({pair}) is {series.mean:.3g} bits a token ({self._window()}), above {limit:g}; "
            "set truncated_weights to 1, lower eta or learning_rate, or end earlier"
        )
        return _Finding("runaway", limit, series.mean > limit, what)

    def _dead(self, series: _Series) -> _Finding | None:
        limit = self.settings.dead_share
        if limit is None:
            return None
        what = (
            f"the share of groups whose rewards are all equal is {series.mean:.3g} "
            f"({self._window()}), at least {limit:g}; {self._cure()}"
        )
        return _Finding("dead", limit, series.mean >= limit, what)

    def _cure(self) -> str:
        """Groups die at both ends: nothing is solved, or everything is."""
        rewards = [
            self._series[name].mean for m in self.modes if (name := f"reward/{m}") in self._series
        ]
        if not rewards:
            return "take prompts that are sometimes solved"
        return (
            f"the mean reward is {fmean(rewards):.3g}: if that is low, take easier prompts or warm "
            "up for longer; if it is high, take harder ones, or end here"
        )


def _at_least(start: float, base: float) -> str:
    return f"{start:.3g}" if start == base else f"{start:.3g}, taken as {base:g}"


class EntropyController:
    """Integral control of a mode's eta: each step eta moves by rate * (target - entropy).

    eta is all that it remembers, and never leaves [low, high]; so nothing is wound up at a bound,
    and the first entropy on the other side of the target moves it away from there. What is steered
    may as well be the gap between two modes' entropies (`of_gap`).
    """

    @classmethod
    def of_gap(cls, target_bits: float, eta: float) -> EntropyController:
        """One that begins at eta, which is its upper bound: strong to open a gap, weak to hold."""
        return cls(ControllerSettings(target_bits=target_bits, high=eta), eta)

    def __init__(self, settings: ControllerSettings, eta: float) -> None:
        """Starts at eta, or at the bound that is nearest."""
        self._settings = settings
        self._eta = self._bounded(eta)

    @property
    def eta(self) -> float:
        """Weight of the bonus now."""
        return self._eta

    def update(self, entropy_bits: float) -> float:
        """The next eta, given the mode's entropy (bits a token); the same for NaN and infinity."""
        if math.isfinite(entropy_bits):
            error = self._settings.target_bits - entropy_bits
            self._eta = self._bounded(self._eta + self._settings.rate * error)
        return self._eta

    def state(self) -> dict[str, float]:
        """All that it remembers, as JSON can hold it."""
        return {"eta": self._eta}

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from `state()`, within these settings' bounds."""
        self._eta = self._bounded(float(state["eta"]))

    def _bounded(self, eta: float) -> float:
        return min(max(eta, self._settings.low), self._settings.high)
