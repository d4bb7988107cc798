"""People's labels: what is read, and what is said of a file that cannot be."""

import json

import pytest

from psplit_eval.errors import DataError
from psplit_eval.labels import LabelKey, read_labels

ROW = {
    "mode": "high",
    "task": "psplit_stories",
    "doc_id": 3,
    "sample_idx": 1,
    "dimension": "creativity",
    "value": 7.5,
}


@pytest.fixture
def written(tmp_path):
    def write(*lines):
        path = tmp_path / "labels.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


def test_labels_are_read_by_what_they_are_of(written):
    path = written(ROW, "", {**ROW, "sample_idx": 0, "value": 4, "labeller": "K"}, "  ")
    labels = read_labels(path)
    assert labels == {
        ("high", "psplit_stories", 3, 1, "creativity"): 7.5,
        ("high", "psplit_stories", 3, 0, "creativity"): 4.0,
    }
    assert all(isinstance(value, float) for value in labels.values())
    assert next(iter(labels)).sample_idx == 1


def test_a_byte_order_mark_and_windows_lines_are_no_trouble(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n")
    assert read_labels(path) == {LabelKey("high", "psplit_stories", 3, 1, "creativity"): 7.5}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{'mode': 1}", ["{'mode': 1}", "not JSON", '"dimension": "creativity"']),
        ("[" * 100_000, ["not JSON"]),
        ("[1, 2]", ["[1, 2]", "expected an object"]),
        ({k: v for k, v in ROW.items() if k != "dimension"}, ["no dimension in", "expected"]),
        ({**ROW, "mode": ""}, ["mode is ''", "not empty"]),
        ({**ROW, "task": None}, ["task is None", "expected a text"]),
        ({**ROW, "doc_id": "3"}, ["doc_id is '3'", "whole number"]),
        ({**ROW, "doc_id": -1}, ["doc_id is -1", "from 0"]),
        ({**ROW, "sample_idx": True}, ["sample_idx is True", "whole number"]),
        ({**ROW, "sample_idx": 1.0}, ["sample_idx is 1.0", "whole number"]),
        ({**ROW, "value": "7"}, ["value is '7'", "finite number", "leave out"]),
        ({**ROW, "value": None}, ["value is None", "leave out"]),
        ({**ROW, "value": True}, ["value is True", "finite number"]),
        ({**ROW, "value": float("nan")}, ["value is nan", "finite number"]),
        ({**ROW, "value": 10**400}, ["value is 1000", "finite number"]),
    ],
)
def test_a_bad_row_is_named_in_one_line(written, row, said):
    path = written({**ROW, "sample_idx": 7}, "", row)
    with pytest.raises(DataError) as caught:
        read_labels(path)
    message = str(caught.value)
    for part in (str(path), "line 3", *said):
        assert part in message
    assert len(message.splitlines()) == 1
    assert len(message) < 600


def test_a_second_label_of_a_sample_is_refused(written):
    path = written(ROW, {**ROW, "dimension": "imagery"}, {**ROW, "value": 2})
    with pytest.raises(DataError, match=r"line 3: 2 is a second label of .*line 1\); expected one"):
        read_labels(path)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_refused(written, text):
    with pytest.raises(DataError, match=r"empty; expected one JSON object a line, such as"):
        read_labels(written(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.jsonl.*cannot be read .*check the path"):
        read_labels(tmp_path / "nowhere.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_labels(binary)
