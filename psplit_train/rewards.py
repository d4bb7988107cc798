"""What a response earns: a right answer by the checker that evaluation uses, under a time limit.

TRL calls rewards in the main thread, which time limits need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from psplit_eval.accuracy import AnswerFormat, answer_key, extract_answer, is_right
from psplit_eval.checkers import Checker
from psplit_eval.limits import OutOfTimeError, time_limit
from psplit_train.config import RewardSettings

__all__ = ["Graded", "Reward", "Verifier"]

_Message = Mapping[str, Any]
_LogMetric = Callable[[str, float], None]


@dataclass(frozen=True)
class Graded:
    """What the check of one response found.

    `formatted`: an answer stands where it should. `key` is equal for responses with the same
    answer; None without one. `failed`: the check raised an error or ran out of time.
    """

    correct: bool
    formatted: bool
    key: str | None
    failed: bool

    @property
    def number(self) -> int:
        """Of a right answer: the same for equal keys, on every process; -1 for all else."""
        if not self.correct or self.key is None:
            return -1
        return int.from_bytes(sha256(self.key.encode()).digest()[:7])


_NOTHING = Graded(correct=False, formatted=False, key=None, failed=False)
_FAILED = Graded(correct=False, formatted=False, key=None, failed=True)


@dataclass(frozen=True)
class Verifier:
    """Grades a response as `psplit_eval.accuracy.grade` does, but never raises.

    `checker` (reference, answer → right or not) takes the place of the answer format's own.
    `time_limit` (seconds) is for one response.
    """

    answer_format: AnswerFormat
    checker: Checker | None = None
    time_limit: float = 5.0

    def grade(self, text: str, answer: str, truncated: bool) -> Graded:
        """Grade a response against its reference; a truncated one is wrong and answers nothing.

        Raises RuntimeError outside the main thread only.
        """
        if truncated:
            return _NOTHING
        try:
            with time_limit(self.time_limit):
                return self._checked(text, answer)
        except OutOfTimeError:
            return _FAILED

    def _checked(self, text: str, answer: str) -> Graded:
        try:
            stated = extract_answer(text, self.answer_format)
            if stated is None:
                return _NOTHING
            right = self._right(answer, stated)
            return Graded(right, True, self._key(stated, answer, right), False)
        except Exception:  # a checker may raise anything; training goes on, and counts it
            return _FAILED

    def _right(self, answer: str, stated: str) -> bool:
        if self.checker is not None:
            return bool(self.checker(answer, stated))
        return is_right(answer, stated, self.answer_format)

    def _key(self, stated: str, answer: str, right: bool) -> str:
        """Where there is one right answer, all right responses give the reference."""
        one = right and self.checker is None and not self.answer_format.several
        return answer_key(answer if one else stated, self.answer_format)


class Reward:
    """TRL's reward function: `correct` times its weight plus `formatted` times its weight.

    A check that fails earns 0. `graded` is what the last call found, in the order of the
    completions; `failures` counts failed checks of all calls of this process.
    """

    __name__ = "reward"

    def __init__(
        self, settings: RewardSettings, verifier: Verifier, eos_ids: Sequence[int]
    ) -> None:
        """A completion that ends in none of `eos_ids` was truncated; without ids none is."""
        self._settings = settings
        self._verifier = verifier
        self._eos_ids = frozenset(eos_ids)
        self.graded: list[Graded] = []
        self.failures = 0

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[str | Sequence[_Message]],
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str],
        log_metric: _LogMetric | None = None,
        **columns: Any,
    ) -> list[float]:
        """A reward for each completion: a text, or the messages of the assistant's turn.

        `answer`: the references. `log_metric` is told the share of failed checks, as
        `failed_checks`.
        """
        self.graded = [
            self._verifier.grade(_text(said), reference, self._truncated(ids))
            for said, ids, reference in zip(completions, completion_ids, answer, strict=True)
        ]
        failed = sum(found.failed for found in self.graded)
        self.failures += failed
        if log_metric is not None and self.graded:
            log_metric("failed_checks", failed / len(self.graded))
        return [self._earned(found) for found in self.graded]

    def _truncated(self, ids: Sequence[int]) -> bool:
        return bool(self._eos_ids) and (not len(ids) or int(ids[-1]) not in self._eos_ids)

    def _earned(self, found: Graded) -> float:
        return self._settings.correct * found.correct + self._settings.format * found.formatted


def _text(completion: str | Sequence[_Message]) -> str:
    """What the assistant said: its messages' contents, joined."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)
