"""Which test decides about which metric: the one table (docs/statistics.md shows it).

Every row says what a doc's number is, by which test two arms are compared, and what is done with
unequal numbers of samples. Everywhere docs are paired, and are a sample of a population unless the
user says that they are all there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from psplit_eval.resampling import Array
from psplit_eval.stats import (
    FEW_DOCS,
    MINIMUM_DOCS,
    Difference,
    mcnemar_difference,
    paired_mean_difference,
    paired_ratio_difference,
)

__all__ = ["BELOW", "PROTOCOL", "Estimand", "Rule", "compare_docs", "rule_of"]

Rows = Array | tuple[Array, Array]

BELOW = (
    f"fewer than {MINIMUM_DOCS} docs: values alone; fewer than {FEW_DOCS} docs that differ: exact "
    "swap test"
)
"""What happens below the minimum number of docs, whatever the metric."""


class Estimand(Enum):
    """What a difference is a statement about."""

    SAMPLE = "docs as sample"
    """Mean over a population of docs, of which these are a sample: claims."""
    GIVEN = "docs as given"
    """Mean over these very docs; only their samples are drawn: gates on a fixed benchmark."""


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    `metrics`: for people; `pattern`: matches whole metric names. `number`: what a doc's number is,
    `unit` its unit. `ratio`: it is a sum of numerators and one of denominators. `once`: with one
    sample a doc that is 0 or 1, the test is McNemar's. `more`: what is done with unequal numbers of
    samples. `given`: what says how much the value varies given the doc; empty: nothing does, and
    docs cannot be taken as given.
    """

    metrics: str
    pattern: str
    number: str
    unit: str
    ratio: bool = False
    once: bool = False
    more: str = "as it is"
    given: str = ""

    @property
    def test(self) -> str:
        """The default test."""
        return "paired t-test on " + ("linearised ratios" if self.ratio else "per-doc values")


PROTOCOL: Sequence[Rule] = (
    Rule(
        "`accuracy_avg`",
        "accuracy_avg",
        "share of right samples",
        "fraction",
        once=True,
        given="variance of the samples",
    ),
    Rule(
        "`accuracy_pass_at_K`",
        r"accuracy_pass_at_\d+",
        "unbiased chance that one of K is right",
        "fraction",
        more="docs with K samples or more",
        given="jackknife over samples, more than K",
    ),
    Rule(
        "`accuracy_maj_at_K`",
        r"accuracy_maj_at_\d+",
        "chance that the most frequent of K answers is right",
        "fraction",
        more="docs with K samples or more",
    ),
    Rule(
        "`entropy_bits`, `entropy_bits_estimate`",
        r"entropy_bits(_estimate)?",
        "bits, and tokens, of all samples",
        "bits a token",
        ratio=True,
    ),
    Rule(
        "`truncated`, `passing`, `quality_PART`, `tokens_mean`, `fluency_bits`, `mtld`, `hd_d`, "
        "`div_ngram_2`",
        r"truncated|passing|quality_.+|tokens_mean|fluency_bits|(mtld|hd_d|div_ngram_2)(_cut)?|"
        r"cut_(tokens|samples)",
        "mean over samples",
        "the metric's",
        once=True,
    ),
    Rule(
        "`semantic_dispersion`, `dispersion_beyond_prompt`, `effective_dispersion`, "
        "`content_diversity`, `mutual_bits`, `use_rarity`, `ngram_overlap_2_with_MODE`",
        r"(semantic_dispersion|dispersion_beyond_prompt|effective_dispersion)(_cut)?|"
        r"content_diversity|mutual_bits|use_rarity|ngram_overlap_2_with_.+",
        "mean over pairs of samples",
        "the metric's",
    ),
    Rule(
        "`accuracy_unique`, `utility_k`, `distinct_k`, `effective_distinct_k`, `vendi`, "
        "`semantic_clusters`, `use_kinds_k`, `div_bleu_4`, `distinct_2`, `ead_1`, "
        "`self_repetition_4`, `compression_ratio`, `pos_templates`, `pos_compression_ratio`",
        r"accuracy_unique|utility_k|(effective_)?distinct_k|use_kinds_k|"
        r"(vendi|semantic_clusters|div_bleu_4|distinct_2|ead_1|"
        r"self_repetition_4|(pos_)?compression_ratio|pos_templates)(_cut)?",
        "number of the set of samples",
        "the metric's",
        more="docs with equally many",
    ),
    Rule(
        "`quality`, numbers of single lists (`effective_originality`, `effective_association`, …), "
        "metrics of lm-eval (`exact_match`, `acc`, …)",
        r".+",
        "mean over samples",
        "the metric's",
        once=True,
        given="variance of the samples",
    ),
)
"""The first row that fits a metric counts."""


def rule_of(metric: str) -> Rule:
    """The row of a metric."""
    return next(rule for rule in PROTOCOL if re.fullmatch(rule.pattern, metric))


def compare_docs(
    rule: Rule, a: Rows, b: Rows, fraction: bool = False, one_sample: bool = False
) -> Difference:
    """b − a by the rule's test; arms are (docs,), or a pair of them for a ratio."""
    if isinstance(a, tuple) or isinstance(b, tuple):
        return paired_ratio_difference((a[0], a[1]), (b[0], b[1]))
    if rule.once and one_sample and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        return mcnemar_difference(a, b)
    return paired_mean_difference(a, b, fraction)
