"""Tables of how modes behave: what stands in which cell."""

import pytest
from behaving import PLACEBOS, SPLIT, behaviour, fill, manifest, mode, opened, policy

from psplit_eval.behaviour_tables import behaviour_tables


@pytest.fixture
def tables(tmp_path):
    """Tables by title, those without rows left out."""

    def made(levels, content):
        with opened(tmp_path) as store:
            fill(store, levels)
            found = behaviour_tables(behaviour(store, content))
            return {table.title: table for table in found if table.rows}

    return made


LOW = {("normal", "low"): (0.7, 1.2), ("normal", "mine"): (0.6, 2.9)}
EVERY = ["normal", "high", "low", policy("mine", "Be odd."), *PLACEBOS]


def test_every_excess_has_a_row_with_its_margin_and_direction(tables):
    table = tables(SPLIT | LOW, manifest(policies=EVERY))["Beyond the placebos"]
    margins = {(row[0], row[1]): row[4] for row in table.rows}
    assert margins == {
        ("high", "KL"): "0.1", ("high", "entropy"): "0.05",
        ("low", "KL"): "0.1", ("low", "entropy"): "−0.05",
        ("mine", "KL"): "0.1", ("mine", "entropy"): "0.05",
    }  # fmt: skip
    high = next(row for row in table.rows if row[:2] == ("high", "KL"))
    assert high[2] == "placebo_1"
    assert high[3].startswith("+0.7")
    assert high[5] == "0.000"


def test_the_matrix_has_a_row_for_sampled_modes_and_a_column_for_all(tables):
    table = tables(SPLIT | LOW, manifest(policies=EVERY))["Matrix of modes"]
    assert table.header == ("samples of", "normal", "high", "low", "mine")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows.keys() == {"normal", "high"}
    assert rows["normal"][0] == "0"
    assert rows["normal"][1].startswith("0.8")
    assert rows["high"][2] == ""  # not scored there


def test_positions_and_tokens_are_readable(tables):
    content = manifest()
    content["divergence"]["token_texts"] = {"0": " so\n", "1": "|"}
    found = tables(SPLIT, content)
    places = [row[3] for row in found["Over the position in the response"].rows]
    assert set(places) == {"0", "1", "2 to 3"}
    row = found["Tokens that carry the divergence"].rows[0]
    assert row[:3] == ("t", "normal", "high")
    assert r"' so\n' 33%" in row[3]
    assert "'2' 33%" in row[3]


def test_token_numbers_stand_apart_from_those_of_texts(tables):
    found = tables(SPLIT, manifest())
    of_tokens = found["Divergence, token by token"]
    assert {row[3] for row in of_tokens.rows} == {
        "kl_bits", "kl_sampled_bits", "js_bits", "entropy_gap_bits", "surprisal_gap_bits"
    }  # fmt: skip
    assert {row[5] for row in of_tokens.rows} == {"bits a token"}
    assert "Benjamini-Hochberg" in of_tokens.note
    for row in of_tokens.rows:
        assert (row[6] == "") == (row[7] == "")


def test_what_is_undefined_is_a_dash(tables):
    one = [mode("a", "Be brief."), mode("b", "Be brief.")]
    same = manifest(one, [policy("a", "Be brief."), policy("b", "Be brief.")])
    found = tables({("a", "a"): (0.0, 2.0), ("a", "b"): (0.0, 2.0)}, same)
    assert "Beyond the placebos" not in found
    assert found["Tokens that carry the divergence"].rows[0][3] == "'0', '1', '2'"
    assert "nan" not in str(found).lower().replace("kl_bits", "")


def test_a_run_that_was_not_scored_has_no_tables(tables):
    assert tables({}, manifest(policies=None)) == {}
