"""People's labels: what is read, and what is said of a file that cannot be."""

import json

import pytest

from psplit_eval.errors import DataError
from psplit_eval.labels import (
    LABELS,
    Frame,
    LabelKey,
    Scale,
    keep_labels,
    kept_labels,
    read_labels,
    sample_id,
)

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
        ({k: v for k, v in ROW.items() if k != "value"}, ["no value in", "expected"]),
        ({"id": "f00d", "dimension": "creativity", "value": 7}, ["no mode in", "expected"]),
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


SAMPLES = [("high", "psplit_stories", 3, index) for index in (0, 1)]
FRAME = Frame(SAMPLES, ("creativity", "imagery"), 0, 10)
DRAWN = {"id": sample_id(*SAMPLES[0]), "dimension": "creativity", "value": 4}


def test_rows_without_a_value_are_not_labelled_yet(written):
    path = written({**ROW, "value": None}, ROW, {"value": None})
    assert list(read_labels(path).values()) == [7.5]
    with pytest.raises(DataError, match="2 rows, none with a value; fill in some"):
        read_labels(written({**ROW, "value": None}, {**DRAWN, "value": None}))


def test_an_id_stands_for_its_sample(written):
    assert read_labels(written(DRAWN, ROW), FRAME) == {
        ("high", "psplit_stories", 3, 0, "creativity"): 4.0,
        ("high", "psplit_stories", 3, 1, "creativity"): 7.5,
    }


def test_ids_differ_by_all_that_a_sample_is_named_by():
    names = [
        ("a", "t", 1, 0),
        ("b", "t", 1, 0),
        ("a", "s", 1, 0),
        ("a", "t", 0, 1),
        ("a", "t", 1, 1),
    ]
    ids = [sample_id(*name) for name in names]
    assert len(set(ids)) == len(ids)
    assert ids == [sample_id(*name) for name in names]


def test_an_id_and_a_whole_key_of_one_sample_are_two_labels(written):
    with pytest.raises(DataError, match=r"line 2: 7.5 is a second label"):
        read_labels(written(DRAWN, {**ROW, "sample_idx": 0}), FRAME)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**DRAWN, "id": "f00d"}, ["id 'f00d' is of no sample of this run", "give that run"]),
        ({**DRAWN, "id": 7}, ["id is 7", "expected a text"]),
        ({**ROW, "doc_id": 4}, ["no answer of", "doc_id 4", "modes (high)", "correct"]),
        ({**ROW, "mode": "hihg"}, ["mode 'hihg'", "modes (high)"]),
        ({**ROW, "task": "t"}, ["task 't'", "tasks (psplit_stories)"]),
        ({**ROW, "dimension": "wit"}, ["dimension 'wit'", "creativity, imagery", "--rubric"]),
        ({**DRAWN, "dimension": ""}, ["dimension is ''", "not empty"]),
        ({**ROW, "value": 10.5}, ["value is 10.5", "from 0 to 10", "correct it"]),
        ({**DRAWN, "value": -1}, ["value is -1", "from 0 to 10"]),
    ],
)
def test_what_is_not_in_the_frame_is_refused_in_one_line(written, row, said):
    path = written({**ROW, "dimension": "imagery"}, row)
    with pytest.raises(DataError) as caught:
        read_labels(path, FRAME)
    for part in (str(path), "line 2", *said):
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


STORY, OTHER = Scale("story", 0, 10), Scale("story", 1, 5)
KEYS = [LabelKey(*sample, "creativity") for sample in SAMPLES]


def test_kept_labels_come_back_and_later_ones_replace_equal_keys(tmp_path):
    assert kept_labels(tmp_path) == {}
    assert keep_labels(tmp_path, STORY, {KEYS[0]: 3.0, KEYS[1]: 7.5}) == 2
    assert keep_labels(tmp_path, OTHER, {KEYS[0]: 5.0}) == 1
    assert keep_labels(tmp_path, STORY, {KEYS[1]: 8.0}) == 2
    assert kept_labels(tmp_path) == {
        STORY: {KEYS[0]: 3.0, KEYS[1]: 8.0},
        OTHER: {KEYS[0]: 5.0},
    }


def test_kept_labels_are_rows_that_can_be_read_as_labels(tmp_path):
    odd = LabelKey("hi\udc00gh", "täsk", 0, 0, "creativity")
    keep_labels(tmp_path, STORY, {KEYS[0]: 3.0})
    assert read_labels(tmp_path / LABELS) == {KEYS[0]: 3.0}
    keep_labels(tmp_path, STORY, {odd: 1.0})
    assert len(read_labels(tmp_path / LABELS)) == 2


@pytest.mark.parametrize("scale", [None, 7, [0], [0, "x"], [0, 5, 10]])
def test_a_kept_label_without_its_scale_is_named(written, scale):
    path = written({**ROW, "rubric": "story", "scale": [0, 10]})
    assert kept_labels(path.parent) == {STORY: {LabelKey(**_key(ROW)): 7.5}}
    written({**ROW, "rubric": "story", "scale": scale})
    with pytest.raises(DataError, match=r"labels.jsonl', line 1: scale is .*two whole numbers"):
        kept_labels(path.parent)


def _key(row):
    return {name: value for name, value in row.items() if name != "value"}
