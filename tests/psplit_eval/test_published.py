"""Published figures as data."""

import pytest

from psplit_eval.errors import UnknownNameError
from psplit_eval.published import TASK_DOCS, original, published


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
