"""Settings that do not go together: errors are raised, what is merely pointless is said."""

from __future__ import annotations

import math
from collections.abc import Iterator

from psplit_eval.errors import UsageError
from psplit_train.config import Config

__all__ = ["check_config", "holds_groups", "micro_batch", "update_share"]


def check_config(config: Config, processes: int = 1) -> list[str]:
    """Warnings, one line each.

    Raises UsageError that begins with the setting's name: what it is, what was expected, what to
    make of it.
    """
    for check in (_micro_batch, _groups, _target_gap, _every, _evaluate):
        check(config, processes)
    warnings = (_pointless_bonus, _rarity, _keep, _reference, _sharing, _controller, _stopping)
    return [line for warning in warnings for line in warning(config)]


def update_share(config: Config, processes: int = 1) -> int:
    """Responses that a process trains on in one update."""
    return config.train.queries * config.train.rollouts // processes


def micro_batch(config: Config, processes: int = 1) -> int:
    """Responses that a process trains on at once."""
    return config.train.micro_batch or update_share(config, processes)


def holds_groups(config: Config, processes: int = 1) -> bool:
    """Whether all responses to a query are always in one micro-batch, so that log-probabilities
    before the update come from the update's own forward pass and cost nothing."""
    return micro_batch(config, processes) % config.train.rollouts == 0


def _micro_batch(config: Config, processes: int) -> None:
    train = config.train
    responses = train.queries * train.rollouts
    if responses % processes:
        raise UsageError(
            f"train.queries {train.queries}: its {responses} responses are not shared evenly by "
            f"{processes} processes, expected a multiple; change queries or rollouts"
        )
    share = responses // processes
    if train.micro_batch and share % train.micro_batch:
        fits = max(n for n in range(1, train.micro_batch + 1) if share % n == 0)
        raise UsageError(
            f"train.micro_batch {train.micro_batch}: expected a divisor of the {share} responses "
            f"of a process ({train.queries} queries × {train.rollouts} rollouts / {processes} "
            f"processes); make it {fits}"
        )


def _groups(config: Config, _: int) -> None:
    count, method = len(config.trained_modes), config.method
    own = config.train.rollouts // count
    if count > 1 and own == 1 and method.sharing != "on":
        raise UsageError(
            f"train.rollouts {config.train.rollouts}: one response of each mode, expected two or "
            f"more with method.sharing {method.sharing}, as a group of one teaches nothing; make "
            f"it {2 * count}"
        )


def _target_gap(config: Config, _: int) -> None:
    if not config.method.target_gap_bits or not config.method.splits:
        return
    if config.stability.controller:
        raise UsageError(
            "method.target_gap_bits with stability.controller: both would move eta; set "
            "target_gap_bits to null (a preset may have one), or leave out the controller"
        )
    for mode in config.trained_modes:
        eta = config.method.eta if mode.eta is None else mode.eta
        if mode.mode().role == "high" and eta <= 0:
            raise UsageError(
                f"mode {mode.name!r}: eta {eta:g}, expected one above 0, as method.target_gap_bits "
                "shrinks it; raise it, or set target_gap_bits to null"
            )


def _every(config: Config, _: int) -> None:
    every, window = config.checkpoints.every, config.train.iterations
    if every and every % window:
        raise UsageError(
            f"checkpoints.every {every}: expected a multiple of train.iterations {window}, as "
            f"resuming inside a batch of responses is not exact; make it {_above(every, window)}"
        )
    if every and every % config.log.every:
        raise UsageError(
            f"checkpoints.every {every}: expected a multiple of log.every {config.log.every}, as a "
            "run that goes on would log a mean over fewer steps; make it "
            f"{_above(every, math.lcm(window, config.log.every))}"
        )


def _evaluate(config: Config, _: int) -> None:
    every = config.evaluate.every if config.evaluate else None
    if every is None:
        return
    saved = config.checkpoints.every
    if saved is None:
        raise UsageError(
            f"evaluate.every {every}: expected a multiple of checkpoints.every, which is not set; "
            f"set checkpoints.every to {every}"
        )
    if every % saved:
        raise UsageError(
            f"evaluate.every {every}: expected a multiple of checkpoints.every {saved}; make it "
            f"{_above(every, saved)}"
        )


def _above(number: int, step: int) -> int:
    return -(-number // step) * step


def _pointless_bonus(config: Config) -> Iterator[str]:
    method = config.method
    if method.splits and method.correctness_mask == "all_same" and method.kappa > 0:
        yield (
            "method.correctness_mask all_same with kappa above 0: every bonus is 0, as groups of "
            "equal rewards have advantage 0 and the clamp is |A| / kappa; set kappa to 0"
        )


def _rarity(config: Config) -> Iterator[str]:
    if config.method.splits and config.method.rarity and config.data.task is None:
        yield (
            "method.rarity: it pays for right answers that are rare, which does nothing where a "
            "question has one right answer; the generated tasks (data.task) have many"
        )


def _keep(config: Config) -> Iterator[str]:
    if not config.warmup.keep:
        return
    if not config.warmup.steps:
        yield "warmup.keep: without warmup.steps there is no warm-up to keep anything through"
    elif config.model.tiny:
        yield "warmup.keep: a model made from nothing (model.tiny) has no answers worth keeping"


def _reference(config: Config) -> Iterator[str]:
    if config.train.beta and config.model.lora:
        after = ", before warm-up" if config.warmup.steps else ""
        yield f"train.beta with model.lora: the KL is to the model without its adapters{after}"


def _sharing(config: Config) -> Iterator[str]:
    method = config.method
    if not method.splits:
        return
    if len(config.modes) == 1:
        yield f"method {method.name} with one mode: nothing is split; give modes two or more"
    shared = {
        "positive_only": method.positive_only,
        "truncated_weights": method.truncated_weights is not None,
    }
    if method.sharing == "off":
        for name in (name for name, given in shared.items() if given):
            yield f"method.{name} with sharing off: it is about shared rows, and there are none"


def _controller(config: Config) -> Iterator[str]:
    high = any(mode.mode().role == "high" for mode in config.trained_modes)
    if config.stability.controller and not (high and config.method.splits):
        yield "stability.controller: it moves eta of high modes, and none is trained"


def _stopping(config: Config) -> Iterator[str]:
    if config.stability.stop and config.checkpoints.every is None:
        yield (
            "stability.stop without checkpoints.every: there is no checkpoint before an alarm to "
            "go back to; set checkpoints.every"
        )
