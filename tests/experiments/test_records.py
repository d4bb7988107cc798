"""Records come back as they were written, and nothing else is taken for one."""

import gzip
from pathlib import Path

import pytest

from experiments.records import Evaluation, Record, read_records, record_path, write_record
from psplit_eval.errors import DataError


def record(arm="Policy Split (code)", seed=0, **changes):
    values = {"held_out": {"normal": {"accuracy_avg": [0.25, 1.0]}}}
    evaluation = Evaluation(10, {"held_out": ["a", "b"]}, values)
    content = {
        "arm": arm,
        "seed": seed,
        "settings": {"method.eta": "0.1"},
        "config": "c0",
        "versions": {"torch": "2"},
        "evaluations": [evaluation],
        "window": 20,
        "splits": [{"mode": "high", "verdict": "no"}],
        "log": {"reward/normal": [0.5]},
    }
    return Record(**{**content, **changes})


def test_they_come_back_by_arm_and_seed(tmp_path):
    written = [record("b", 1), record("a", 10), record("a", 2)]
    for each in written:
        write_record(tmp_path, each)
    assert read_records(tmp_path) == [record("a", 2), record("a", 10), record("b", 1)]


def test_the_same_record_is_the_same_bytes(tmp_path):
    first = write_record(tmp_path, record()).read_bytes()
    assert write_record(tmp_path, record()).read_bytes() == first


def test_names_of_arms_make_names_of_files():
    assert record_path(Path("of"), "Policy Split (code)", 3) == Path(
        "of/policy_split__code_-3.json.gz"
    )


@pytest.mark.parametrize(
    "content", [b"", b"{}", gzip.compress(b"{}", mtime=0), gzip.compress(b"[1]", mtime=0)]
)
def test_what_is_no_record_is_said(tmp_path, content):
    (tmp_path / "x-0.json.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x-0\.json\.gz.*no record"):
        read_records(tmp_path)


def test_a_folder_without_records(tmp_path):
    assert read_records(tmp_path / "none") == []
