"""How far the policies of a checkpoint are apart, token by token: estimates from cross-scores.

Everything is in bits a token, pooled: all bits over all tokens, with docs as clusters. Contexts are
those of the samples of one mode: KL(normal‖high) is taken at what normal said, KL(high‖normal) at
what high said.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from psplit_eval.findings import Finding
from psplit_eval.stats import (
    Difference,
    Estimate,
    paired_ratio_difference,
    ratio_estimate,
    stratified_difference,
)
from psplit_eval.store import CrossScore, CrossSums, Sample, Store

__all__ = [
    "CARRIERS",
    "Carrier",
    "Pair",
    "Stretch",
    "carriers",
    "curve",
    "mean_over_tasks",
    "read_sums",
    "token_findings",
]

CARRIERS = 20
"""How many tokens are named as those that carry a divergence."""

_UNIT = "bits a token"

_Sums = Mapping[int, CrossSums]
_Rows = NDArray[np.float64]


def read_sums(store: Store, task: str, mode: str) -> dict[str, dict[int, CrossSums]]:
    """Policy → doc → sums over the samples of one mode on one task."""
    found: dict[str, dict[int, CrossSums]] = defaultdict(dict)
    for sums in store.cross_sums(task, mode):
        found[sums.policy][sums.doc_id] = sums
    return dict(found)


@dataclass(frozen=True)
class Pair:
    """Two policies at the contexts of the samples of one mode, doc by doc.

    Docs are those that have both, with the same samples, all numbers defined. `rows` (docs, 5) of
    either: the sums of `CrossSums`; `tokens` (docs,).
    """

    docs: Sequence[int]
    tokens: _Rows
    rows_a: _Rows
    rows_b: _Rows

    @classmethod
    def of(cls, a: _Sums, b: _Sums) -> Pair:
        docs = [doc for doc in sorted(a.keys() & b.keys()) if _comparable(a[doc], b[doc])]
        rows = [np.array([sums[doc][4:] for doc in docs]).reshape(-1, 5) for sums in (a, b)]
        return cls(docs, np.array([float(a[doc].tokens) for doc in docs]), rows[0], rows[1])

    def kl(self) -> Estimate:
        """KL(mode‖b) over the full vocabulary, at the contexts of the mode's samples."""
        return ratio_estimate(self._b("kl_sum_bits"), self.tokens)

    def js(self) -> Estimate:
        """Jensen–Shannon divergence of the mode and b, in [0, 1]."""
        return ratio_estimate(self._b("js_sum_bits"), self.tokens)

    def entropy(self) -> Difference:
        """Entropy of b minus that of a, at the same contexts."""
        return self._gap("entropy_sum_bits")

    def surprisal(self) -> Difference:
        """−log2 p of the sampled tokens under b minus under a."""
        return self._gap("nll_sum_bits")

    def divergence(self) -> Difference:
        """KL(mode‖b) minus KL(mode‖a)."""
        return self._gap("kl_sum_bits")

    def _b(self, name: str) -> _Rows:
        column: _Rows = self.rows_b[:, _column(name)]
        return column

    def _gap(self, name: str) -> Difference:
        column = _column(name)
        a, b = self.rows_a[:, column], self.rows_b[:, column]
        return paired_ratio_difference((a, self.tokens), (b, self.tokens))


def _column(name: str) -> int:
    return CrossSums._fields.index(name) - 4


def _comparable(a: CrossSums, b: CrossSums) -> bool:
    numbers = (*a[4:], *b[4:])
    return (a.samples, a.tokens) == (b.samples, b.tokens) and all(map(math.isfinite, numbers))


def token_findings(
    task: str, mode: str, policy: str, pair: Pair, drawn: str = "", estimate: bool = False
) -> Iterator[Finding]:
    """The numbers of a mode and another policy at the mode's contexts.

    `pair`: of the mode itself and the policy. `drawn`: how the contexts were drawn, where not at
    temperature 1 without truncation: then the mean of sampled log-ratios is no estimate of KL, and
    is given as the gap of surprisals alone. `estimate`: of the most probable tokens, a lower bound.
    """
    said = [f"contexts drawn at {drawn}"] if drawn else []
    bound = ["lower bound: of the most probable tokens"] if estimate else []
    either = ["difference of two lower bounds: may err either way"] if estimate else []

    def finding(measure: str, value: Estimate | Difference, more: Sequence[str] = ()) -> Finding:
        note = "; ".join([*said, *more])
        if isinstance(value, Estimate):
            return Finding(task, mode, policy, measure, _UNIT, value, note=note)
        return Finding.of_difference(task, mode, policy, measure, _UNIT, value, note)

    yield finding("kl_bits", pair.kl(), bound)
    gap = pair.surprisal()
    if not drawn:
        yield finding("kl_sampled_bits", _untested(gap))
    yield finding("js_bits", pair.js(), bound)
    yield finding("entropy_gap_bits", pair.entropy(), either)
    yield finding("surprisal_gap_bits", gap)


def _untested(gap: Difference) -> Estimate:
    return Estimate(gap.difference, gap.ci_low, gap.ci_high, gap.n)


def mean_over_tasks(differences: Sequence[Difference]) -> Difference:
    """The plain mean over tasks; a single task's is itself."""
    return differences[0] if len(differences) == 1 else stratified_difference(differences)


class Stretch(NamedTuple):
    """Token positions first … last of responses, from 0: bits a token there.

    `kl` is KL(mode‖policy); the entropies are those of the mode and of the policy.
    """

    first: int
    last: int
    kl: Estimate
    entropy_mode: Estimate
    entropy_policy: Estimate


def curve(store: Store, task: str, mode: str, policy: str) -> list[Stretch]:
    """Over the position in the response, in stretches that double: 0, 1, 2–3, 4–7, …

    Intervals are over the docs that reach a stretch; see `ratio_estimate` for few of them.
    """
    sums: dict[tuple[int, int], _Rows] = defaultdict(lambda: np.zeros(4))
    for doc, _, rows in _by_token(store, task, mode, policy):
        stretches = np.frexp(np.arange(rows.shape[1]))[1]  # of 0, 1, 2–3, 4–7: 0, 1, 2, 3
        counted = np.vstack([rows, np.ones(rows.shape[1])])
        for number in np.unique(stretches):
            sums[int(number), doc] += counted[:, stretches == number].sum(axis=1)
    found = []
    for number in sorted({number for number, _ in sums}):
        of_docs = np.stack([values for (n, _), values in sums.items() if n == number])
        estimates = (ratio_estimate(of_docs[:, i], of_docs[:, 3]) for i in range(3))
        found.append(Stretch(2 ** (number - 1) if number else 0, 2**number - 1, *estimates))
    return found


class Carrier(NamedTuple):
    """A token of the vocabulary, and the divergence at the places where the mode's samples say it.

    `kl_bits` is the sum of KL(mode‖policy) there, `share` that of the whole sum.
    """

    token: int
    places: int
    kl_bits: float
    share: float


def carriers(
    store: Store, task: str, mode: str, policy: str, most: int = CARRIERS
) -> list[Carrier]:
    """The tokens that carry most of KL(mode‖policy): at whose places it is."""
    kl: Counter[int] = Counter()
    count: Counter[int] = Counter()
    for _, ids, rows in _by_token(store, task, mode, policy):
        for token, bits in zip(ids, rows[0].tolist(), strict=False):  # a server's ids are not known
            kl[token] += bits
            count[token] += 1
    whole = math.fsum(kl.values())
    return [
        Carrier(token, count[token], bits, bits / whole if whole else math.nan)
        for token, bits in kl.most_common(most)
    ]


def _by_token(
    store: Store, task: str, mode: str, policy: str
) -> Iterator[tuple[int, Sequence[int], _Rows]]:
    """Of every sample its doc, its token ids and (3, tokens): KL, and the entropies of both.

    Samples with undefined numbers are left out.
    """
    own = _Joined(store.cross_scores(task, mode, mode))
    samples = _Joined(store.samples(task, mode))
    for score in store.cross_scores(task, mode, policy):
        key = score.doc_id, score.sample_idx
        ours, sample = own.at(key), samples.at(key)
        if score.by_token is None or ours is None or ours.by_token is None or sample is None:
            continue
        if len(score.by_token) != len(ours.by_token):  # one of them could not be had
            continue
        (kl, theirs), (_, entropy) = _rows_of(score.by_token), _rows_of(ours.by_token)
        rows = np.stack([kl, entropy, theirs])
        if np.isfinite(rows).all():
            yield score.doc_id, sample.completion_ids or (), rows


def _rows_of(by_token: bytes) -> _Rows:
    return np.frombuffer(by_token, np.float32).reshape(2, -1).astype(np.float64)


_Item = TypeVar("_Item", CrossScore, Sample)


class _Joined(Generic[_Item]):
    """Items in the order of (doc, sample index), looked up in that order."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items: Iterator[_Item] = items
        self._next: _Item | None = next(items, None)

    def at(self, key: tuple[int, int]) -> _Item | None:
        while self._next is not None and (self._next.doc_id, self._next.sample_idx) < key:
            self._next = next(self._items, None)
        found = self._next
        return found if found and (found.doc_id, found.sample_idx) == key else None
