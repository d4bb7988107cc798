"""Records come back as they were written, and nothing else is taken for one."""

import gzip
import json
from pathlib import Path

import pytest

from experiments.records import (
    STOPPED,
    Evaluation,
    Record,
    read_records,
    read_stopped,
    record_path,
    write_record,
)
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


def test_a_record_of_before_does_not_know_its_study(tmp_path):
    path = write_record(tmp_path, record(study="s0"))
    assert read_records(tmp_path)[0].study == "s0"
    content = json.loads(gzip.decompress(path.read_bytes()))
    del content["study"]
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert read_records(tmp_path) == [record()]


def test_what_was_stopped_and_came_to_its_end_later_is_no_longer_told_of(tmp_path):
    for seed in (0, 1):
        write_record(tmp_path / STOPPED, record(seed=seed, evaluations=[]))
    write_record(tmp_path, record(seed=1))
    assert [each.seed for each in read_stopped(tmp_path)] == [0]


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
