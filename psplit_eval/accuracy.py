"""Answer extraction, equivalence, and accuracy over the k samples of one doc.

The one implementation of all three: lm-eval tasks call `grade` through their YAML, psplit calls it
on stored samples. Equivalence is math-verify's, under a time limit, after cheap exact checks.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from psplit_eval.checkers import CHECKERS
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.limits import OutOfTimeError, limited, time_limit

__all__ = [
    "AnswerFormat",
    "Grade",
    "Votes",
    "answer_classes",
    "answer_groups",
    "answer_key",
    "equivalent",
    "extract_answer",
    "extract_boxed",
    "grade",
    "is_right",
    "maj_at_k",
    "pass_at_k",
    "pass_at_k_variance",
]

_Chances = NDArray[np.float64]

_RIGHT = -1
"""In the place of a group's number: all right answers."""

_TIME_LIMIT_SECONDS = 5
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,4})?")
_UNIT_AFTER_NUMBER = re.compile(r"([-+]?\d[\d.]*)\s+(?!(?:pi|sqrt|and|or)\b)[A-Za-z]{2,}[A-Za-z ]*")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\{,\}|\\,|\\!)\d{3})+(?!\d)")
_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DROPPED = re.compile(r"(?<!\\)\\(?:left|right|[!,; ])|\^\\circ|\^\{\\circ\}|°")
_NUMBER_BASE = re.compile(r"\d_")
_LETTER = re.compile(r"[(\[{]?([A-Za-z])[)\]}]?[.:]?(?:(?<=[.:)\]])\s.*)?", re.DOTALL)


@dataclass(frozen=True)
class AnswerFormat:
    """Where a task's answer stands in a response, and what kind of answer it is.

    `pattern` None: the last \\boxed{}. Otherwise a regular expression whose first group is the
    answer; the last match counts, or with `first` the first one (for models that go on to invent
    further questions). `letter`: the answer is one upper-case option letter; the option's text may
    follow it (`B. heat`, `(B) heat`). `checker`: the question has several right answers, and this
    one of `checkers.CHECKERS` decides; None: a right answer means the same as the reference.
    """

    pattern: str | None = None
    letter: bool = False
    first: bool = False
    checker: str | None = None

    @property
    def several(self) -> bool:
        """Whether a question has several right answers."""
        return self.checker is not None

    def __post_init__(self) -> None:
        if self.checker is not None and self.checker not in CHECKERS:
            raise UnknownNameError("checker", self.checker, CHECKERS)
        if self.checker is not None and self.letter:
            raise UsageError(
                f"checker {self.checker!r}: expected no letter beside it; leave one of them out"
            )
        try:
            groups = 1 if self.pattern is None else re.compile(self.pattern).groups
        except re.error as error:
            raise UsageError(
                f"answer pattern {self.pattern!r}: not a regular expression ({error})"
            ) from error
        if groups < 1:
            raise UsageError(
                f"answer pattern {self.pattern!r}: expected a group in parentheses that holds the "
                "answer; add one"
            )


@dataclass(frozen=True)
class Grade:
    """What was answered (None: no answer found) and whether it is right.

    `several`: the question has several right answers, so that right ones need not be the same.
    """

    answer: str | None
    correct: bool
    several: bool = field(default=False, repr=False)


def extract_boxed(text: str) -> str | None:
    """Content of the last complete \\boxed{} or \\fbox{}, braces balanced; None without one."""
    for start in reversed([m.end() for m in re.finditer(r"\\(?:boxed|fbox)\s*(?=\{)", text)]):
        depth = 0
        for position in range(start, len(text)):
            escaped = position > 0 and text[position - 1] == "\\"
            depth += 0 if escaped else {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start + 1 : position].strip()
    return None


def extract_answer(text: str, answer_format: AnswerFormat) -> str | None:
    """The answer that `text` states in `answer_format`, stripped; None where it states none."""
    if answer_format.pattern is None:
        found = extract_boxed(text)
    else:
        matches = list(re.finditer(answer_format.pattern, text))
        found = matches[0 if answer_format.first else -1].group(1) if matches else None
    found = (found or "").strip()
    if found and answer_format.letter:
        letter = _LETTER.fullmatch(_unwrap(found).strip())
        return letter.group(1).upper() if letter else None
    return found or None


def grade(text: str, target: str, answer_format: AnswerFormat) -> Grade:
    """Grade one response against its reference answer. No answer is a wrong answer.

    >>> grade(r"So it is \\boxed{1/2}.", "0.5", AnswerFormat())
    Grade(answer='1/2', correct=True)
    """
    answer = extract_answer(text, answer_format)
    right = answer is not None and is_right(target, answer, answer_format)
    return Grade(answer, right, answer_format.several)


def is_right(target: str, answer: str, answer_format: AnswerFormat) -> bool:
    """Whether an answer, as `extract_answer` gives it, is right by its reference."""
    if answer_format.letter:
        return answer == target.strip().upper()
    if answer_format.checker is not None:
        return CHECKERS[answer_format.checker](target.strip(), answer)
    return equivalent(target, answer)


def answer_key(answer: str, answer_format: AnswerFormat) -> str:
    """A text that is equal for answers that differ in form only.

    Of a question with several right answers that is in spaces only; else also in units, currency
    and separators, as `equivalent` reads them (answers that mean the same may still have two keys).
    """
    plain = _unspaced(answer)
    return plain if answer_format.several else _normalised(answer) or plain


@lru_cache(maxsize=65536)
def equivalent(target: str, answer: str) -> bool:
    """Whether two answers mean the same.

    Equal after dropping spaces, units, currency and thousands separators; as numbers; as a
    percentage read either way (50 % is 50 and 0.5); else by math-verify, for at most 5 s, or as
    long as a `limits.time_limit` of the caller's lasts. Must be called from the main thread (time
    limits are signals). A pair that 5 s do not decide is not equivalent. `target` may be any set;
    `answer` has to give all of it.
    """
    left, right = _normalised(target), _normalised(answer)
    if not left or not right:
        return False
    if left == right:
        return True
    if "%" in left + right:
        return any(equivalent(a, b) for a in _percent(left) for b in _percent(right))
    if _NUMBER.fullmatch(left) and _NUMBER.fullmatch(right):
        return Decimal(left) == Decimal(right)
    if _NUMBER_BASE.search(left + right):  # math-verify would read 11_2 as 11
        return False
    return _math_verify(left, right)


def _percent(text: str) -> list[str]:
    bare = text.removesuffix("%").removesuffix("\\")
    if bare == text:
        return [text]
    value = [str(Decimal(bare) / 100)] if _NUMBER.fullmatch(bare) else []
    return [bare, *value]


def _unwrap(text: str) -> str:
    previous = None
    while previous != text:
        previous, text = text, _WRAPPERS.sub(r"\1", text)
    return text


def _normalised(text: str) -> str:
    text = _THOUSANDS.sub(lambda m: re.sub(r"[^\d]", "", m.group()), text.strip())
    text = _unwrap(text.replace("\\$", "").replace("$", "").strip()).strip()
    unit = _UNIT_AFTER_NUMBER.fullmatch(text.rstrip("."))
    text = unit.group(1) if unit else text
    text = re.sub(r"\\[dt]frac", r"\\frac", _DROPPED.sub("", text))
    return re.sub(r"\s+", "", text).rstrip(".")


def _math_verify(target: str, answer: str) -> bool:
    if limited():
        return _verified(target, answer)
    try:
        with time_limit(_TIME_LIMIT_SECONDS):
            return _verified(target, answer)
    except OutOfTimeError:
        return False


def _verified(target: str, answer: str) -> bool:
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    # without its own time limits: they would end the one that is in force
    parsed = [
        math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (target, answer)
    ]
    return bool(math_verify.verify(*parsed, timeout_seconds=None))


def answer_groups(answers: Sequence[str]) -> list[int]:
    """Of every answer the number of its group, from 0 in order of appearance.

    Answers that mean the same are one group. Equal normal forms need no asking; else an answer is
    asked of the first member of every group (`equivalent`). So math-verify has few pairs to judge,
    and order matters where 'means the same' is not transitive (50 % is 50, and is 0.5).
    """
    firsts: list[str] = []
    groups: dict[tuple[str, str], int] = {}
    found = []
    for answer in answers:
        normal = _normalised(answer)
        key = (normal, "" if normal else answer)  # what has no normal form means itself alone
        if key not in groups:
            same = (group for group, first in enumerate(firsts) if equivalent(first, answer))
            groups[key] = next(same, len(firsts))
            firsts += [answer] if groups[key] == len(firsts) else []
        found.append(groups[key])
    return found


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased probability that at least one of k of the n samples is right, in [0, 1].

    1 − C(n−c, k) / C(n, k) (Chen et al. 2021, Eq. 1). NaN where k > n: it cannot be estimated.
    Raises UsageError for k < 1 or a count outside 0..n.
    """
    if k < 1 or not 0 <= correct <= n:
        raise UsageError(f"pass@k of n={n}, correct={correct}, k={k}: expected k >= 1, 0 <= c <= n")
    if k > n:
        return math.nan
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def pass_at_k_variance(n: int, correct: int, k: int) -> float:
    """Variance that `pass_at_k` has given the question, estimated by the jackknife over samples.

    (n − 1) / n Σ (θ₋ᵢ − θ̄)², θ₋ᵢ without sample i; for k = 1 it is s² / n, for other k it errs
    upwards (Efron and Stein 1981). NaN where k ≥ n: one sample less cannot do.
    """
    if k >= n:
        return math.nan
    right = pass_at_k(n - 1, correct - 1, k) if correct else 0.0
    wrong = pass_at_k(n - 1, correct, k) if correct < n else 0.0
    share = correct / n
    return (n - 1) * share * (1 - share) * (wrong - right) ** 2


def maj_at_k(grades: Sequence[Grade], k: int) -> float:
    """Expected majority vote of k of the n samples, in [0, 1]: see `Votes.maj_at`."""
    return Votes.of(grades).maj_at(k)


def answer_classes(grades: Sequence[Grade]) -> list[int | None]:
    """Which answers to one doc are the same: each one's class, None where there is no answer.

    Classes are numbered in the order in which they first occur. All right answers mean the same; a
    wrong one belongs to the first class of wrong ones whose first member it is equivalent to.
    Where there are several right answers, those are the same whose texts are, spaces aside.
    """
    if any(vote.several for vote in grades):
        return _by_text(grades)
    wrong = [vote.answer for vote in grades if vote.answer is not None and not vote.correct]
    groups = iter(answer_groups(wrong))
    keys = [_RIGHT if vote.correct else next(groups) for vote in grades if vote.answer is not None]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    classes = (numbers[key] for key in keys)
    return [None if vote.answer is None else next(classes) for vote in grades]


def _by_text(grades: Sequence[Grade]) -> list[int | None]:
    texts = [None if vote.answer is None else _unspaced(vote.answer) for vote in grades]
    known = [text for text in texts if text is not None]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(known))}
    return [None if text is None else numbers[text] for text in texts]


def _unspaced(text: str) -> str:
    return re.sub(r"\s+", "", text)


@dataclass(frozen=True)
class Votes:
    """How often every answer was given to one doc.

    `right`: samples with a right answer, which all mean the same; `wrong`: samples of every wrong
    answer, answers being grouped by equivalence; `silent`: samples without an answer.
    """

    right: int
    wrong: tuple[int, ...]
    silent: int

    @classmethod
    def of(cls, grades: Sequence[Grade]) -> Self:
        """Count once, vote for many k: grouping may ask math-verify about every two answers."""
        right = sum(vote.correct and vote.answer is not None for vote in grades)
        others = [vote.answer for vote in grades if vote.answer is not None and not vote.correct]
        wrong = tuple(Counter(answer_groups(others)).values())
        return cls(right, wrong, len(grades) - right - sum(wrong))

    def maj_at(self, k: int) -> float:
        """Mean over all C(n, k) subsets of k samples of: is the most frequent answer right?

        So for every k ≤ n it is an unbiased estimate of the same number, as pass@k is. In [0, 1].
        Samples without an answer do not vote. Tie rule: one of the tied answers is drawn at random,
        so a subset counts the share of its tied answers that are right; 0 where nobody answers.
        NaN where k > n. Raises UsageError for k < 1.

        Not by enumeration: if every sample is taken with chance k / n, on its own, then those takes
        that have k samples are equally likely subsets. Answers are then independent, and a dynamic
        programme over them sums what every number of right votes wins. Errors of rounding only,
        about 1e-13: all terms are positive, and none leaves the range of a float.
        """
        n = self.right + sum(self.wrong) + self.silent
        if k < 1:
            raise UsageError(f"maj@k of k={k}: expected k >= 1")
        if k > n:
            return math.nan
        chances = _chances(self.right, k / n)
        won = sum(
            float(chances[votes]) * self._unbeaten(votes, k, k / n)
            for votes in range(1, min(self.right, k) + 1)
            if chances[votes] > 0
        )
        return min(1.0, won / float(_chances(n, k / n)[k]))

    def _unbeaten(self, votes: int, k: int, share: float) -> float:
        """Chance that all other samples make up k, and no wrong answer has more than `votes`;
        where t have as many it counts 1 / (t + 1).

        Answers that cannot have as many need no counting. `ways[t, d]`: chance of t ties and d
        votes for answers below.
        """
        rivals = [size for size in self.wrong if size >= votes]
        rest = k - votes
        ways = np.zeros((min(len(rivals), rest // votes) + 1, 1))
        ways[0, 0] = 1.0
        for size in rivals:
            ways = _with_rival(ways, _chances(size, share)[: votes + 1], rest + 1)
        harmless = _chances(self.silent + sum(self.wrong) - sum(rivals), share)
        ties, below = np.indices(ways.shape)
        left = rest - votes * ties - below
        possible = (left >= 0) & (left < len(harmless))
        return float((ways / (ties + 1))[possible] @ harmless[left[possible]])


def _with_rival(ways: _Chances, chances: _Chances, width: int) -> _Chances:
    """`ways` with one more answer, which gets fewer votes or ties; at most `width` columns."""
    ties, old = ways.shape
    new = old + len(chances) - 2
    # rows laid end to end, each with room to grow: one convolution does all
    padded = np.zeros((ties, new))
    padded[:, :old] = ways
    grown = np.convolve(padded.ravel(), chances[:-1])[: ties * new].reshape(ties, new)
    grown[1:, :old] += ways[:-1] * chances[-1]
    return grown[:, :width]


@lru_cache(maxsize=1024)
def _chances(samples: int, share: float) -> _Chances:
    """Binomial chances of 0 to `samples` takes (samples + 1,), each taken with chance `share`."""
    row, once = np.ones(1), np.array([1 - share, share])
    for bit in f"{samples:b}":
        row = np.convolve(row, row)
        if bit == "1":
            row = np.convolve(row, once)
    return row
