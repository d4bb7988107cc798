"""Published figures as data."""

import math

import pytest

from psplit_eval.errors import UnknownNameError
from psplit_eval.published import (
    AVERAGED,
    TASK_DOCS,
    original,
    published,
    published_creative,
)
from psplit_eval.ranks import mean_of_columns
from psplit_eval.stats import Estimate


def test_every_published_average_is_the_plain_mean_of_its_columns():
    """The paper's own rule; its figures are rounded to two decimals."""
    rows = published()
    assert len(rows) == 19
    for row in rows:
        assert sum(row.accuracy.values()) / 4 == pytest.approx(row.average_accuracy, abs=1.1e-4)
        assert sum(row.entropy.values()) / 4 == pytest.approx(row.average_entropy, abs=0.0101)


def test_a_model_before_training():
    row = original("qwen3-8b")
    assert row.accuracy["psplit_math500"] == pytest.approx(0.9420)
    assert row.entropy["psplit_mmlu_pro"] == 0.56
    assert set(row.accuracy) <= set(TASK_DOCS)
    with pytest.raises(UnknownNameError, match="qwen3-4b"):
        original("qwen3-4")


def test_both_modes_of_policy_split_are_there():
    modes = {row.mode for row in published() if row.method == "Policy Split"}
    assert modes == {"normal", "high"}


def test_the_boards_average_of_the_published_columns_is_the_published_average():
    """To the printed digits: no row is more than half a unit of the last one off."""
    for row in published():
        for columns, printed, digits in (
            (row.accuracy, row.average_accuracy, 4),
            (row.entropy, row.average_entropy, 2),
        ):
            theirs = [Estimate(columns[task], math.nan, math.nan, 0) for task in AVERAGED]
            found = mean_of_columns(theirs)
            assert abs(found.value - printed) <= 0.5 * 10**-digits + 1e-12
            assert math.isnan(found.ci_low)


def test_creative_writing_as_published():
    rows = published_creative()
    assert [(row.method, row.mode) for row in rows][-2:] == [
        ("Policy Split", "normal"),
        ("Policy Split", "high"),
    ]
    assert {row.model for row in rows} == {"qwen3-8b"}
    assert rows[0].diversity == pytest.approx({"div_ngram_2": 0.4962, "div_bleu_4": 0.6034})
    assert rows[-1].judged["originality"] == pytest.approx(5.529)
    assert all(0 <= score <= 10 for row in rows for score in row.judged.values())
    assert [len(row.judged) for row in rows] == [5] * 5
