"""Samples for people: drawn at random and blind; their labels: checked and kept."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from labelled_run import (
    RUBRIC,
    TASK,
    Flattered,
    fill_in,
    judge,
    make_run,
    rows,
    texts,
    truth,
    worth,
)

from psplit_eval.cli import main
from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.labelling import DrawOptions, draw_labels, take_labels
from psplit_eval.labels import LABELS, LabelKey, Scale, keep_labels, kept_labels, sample_id

STORY = Scale("story", 0, 10)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A run that is judged and not labelled; not to be changed."""
    folder = make_run(tmp_path_factory.mktemp("labelling") / "run", docs=20)
    judge(folder)
    return folder


@pytest.fixture
def own(tmp_path):
    folder = make_run(tmp_path / "run", docs=12)
    judge(folder)
    return folder


def samples_of(folder, path):
    """(mode, doc_id, sample_idx) of every row of a drawn file."""
    ids = {sample_id(m, TASK, doc, i): (m, doc, i) for m, doc, i in texts(folder)}
    return [ids[row["id"]] for row in rows(path)]


def draw(folder, out, n=10, **more):
    return draw_labels(DrawOptions(folder, RUBRIC, n, out, **more))


def test_rows_hold_what_a_judge_sees_and_no_mode(judged, tmp_path):
    out = tmp_path / "drawn.jsonl"
    drawn = draw(judged, out)
    assert (drawn.rows, drawn.samples) == (20, {TASK: {"high": 10, "normal": 10}})
    known = texts(judged)
    (primary,) = (d for d in RUBRIC.dimensions if d.name == RUBRIC.primary)
    for row, key in zip(rows(out), samples_of(judged, out), strict=True):
        assert set(row) == {"id", "dimension", "question", "scale", "prompt", "text", "value"}
        assert (row["text"], row["value"]) == (known[key], None)
        assert row["prompt"] == f"Tell of number {key[1]}."  # of both modes, without 'Be wild'
        assert (row["dimension"], row["question"]) == (RUBRIC.primary, primary.question)
        assert {"0", "10"} <= set(row["scale"])
    content = out.read_text()
    for word in ("normal", '"high', "HIGHLY", "mode", TASK):
        assert word not in content


def test_the_same_samples_of_both_modes_are_mixed(judged, tmp_path):
    draw(judged, tmp_path / "drawn.jsonl", 20)
    drawn = samples_of(judged, tmp_path / "drawn.jsonl")
    by_mode = {m: {key[1:] for key in drawn if key[0] == m} for m in ("normal", "high")}
    assert by_mode["normal"] == by_mode["high"]
    assert len({doc for doc, _ in by_mode["high"]}) == 20  # of 20 docs with 2 samples
    modes = [key[0] for key in drawn]
    changes = sum(a != b for a, b in pairwise(modes))
    assert 10 <= changes <= 29  # neither in blocks nor in turn; all but 1 in 1 000 orders of 40 are


def test_a_seed_gives_one_draw_and_another_seed_another(judged, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw(judged, tmp_path / name, seed=seed)
    contents = [(tmp_path / name).read_text() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_what_one_mode_lacks_is_made_up_from_its_rest(tmp_path):
    run = make_run(tmp_path / "run", docs=20)
    judge(run, Flattered(silent="Behold 0, a tale"))  # no verdict of most first samples of 'high'
    draw(run, tmp_path / "drawn.jsonl", 12)
    drawn = samples_of(run, tmp_path / "drawn.jsonl")
    assert Counter(mode for mode, *_ in drawn) == {"normal": 12, "high": 12}
    known = texts(run)
    assert not [key for key in drawn if known[key].startswith("Behold 0,")]
    by_mode = {m: {key[1:] for key in drawn if key[0] == m} for m in ("normal", "high")}
    assert len(by_mode["normal"] & by_mode["high"]) >= 5


def test_every_sample_of_a_mode_has_equal_chances(tmp_path):
    """Where modes differ in what they have, too: counts of 150 draws lie as a binomial's do."""
    run = make_run(tmp_path / "run", docs=10)
    judge(run, Flattered(silent="Behold 0, a tale"))
    seen = Counter()
    for seed in range(150):
        draw(run, tmp_path / f"{seed}.jsonl", 4, seed=seed)
        drawn = samples_of(run, tmp_path / f"{seed}.jsonl")
        seen.update(key for key in drawn if key[0] == "high")
    there = len([k for k, text in texts(run).items() if k[0] == "high" and "Behold 0," not in text])
    chance = 4 / there
    spread = (150 * chance * (1 - chance)) ** 0.5
    assert len(seen) == there
    assert all(abs(count - 150 * chance) < 4 * spread for count in seen.values())


def test_only_judged_samples_are_drawn_or_all_where_none_is(tmp_path):
    run = make_run(tmp_path / "run", docs=8)
    draw(run, tmp_path / "all.jsonl", 16)
    assert len(set(samples_of(run, tmp_path / "all.jsonl"))) == 32
    judge(run, samples=1)
    draw(run, tmp_path / "judged.jsonl", 8)
    assert {key[2] for key in samples_of(run, tmp_path / "judged.jsonl")} == {0}
    with pytest.raises(
        UsageError, match=r"--draw 9: expected 1 to 8, the samples of mode '\w+' on"
    ):
        draw(run, tmp_path / "more.jsonl", 9)


def test_what_is_labelled_is_not_drawn_again(own, tmp_path):
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    draw(own, first, 10)
    fill_in(first)
    take_labels(own, RUBRIC, first)
    draw(own, second, 14)
    once, again = (set(samples_of(own, path)) for path in (first, second))
    assert once | again == set(texts(own))
    assert not once & again
    fill_in(second)
    take_labels(own, RUBRIC, second)
    with pytest.raises(UsageError, match=r"every sample of mode .* is labelled"):
        draw(own, tmp_path / "3.jsonl", 1)
    draw(own, tmp_path / "3.jsonl", 5, dimensions=["creativity", "imagery"])


def test_all_dimensions_of_a_sample_stand_together(judged, tmp_path):
    drawn = draw(judged, tmp_path / "drawn.jsonl", 5, dimensions=["imagery", "creativity"])
    assert drawn.rows == 20
    found = rows(tmp_path / "drawn.jsonl")
    assert [row["dimension"] for row in found] == ["imagery", "creativity"] * 10
    assert all(a["id"] == b["id"] for a, b in zip(found[::2], found[1::2], strict=True))


def test_a_file_is_never_overwritten(judged, tmp_path):
    out = tmp_path / "drawn.jsonl"
    out.write_text("labels of a week")
    with pytest.raises(UsageError, match=r"drawn.jsonl': is there already.*give another --out"):
        draw(judged, out)
    assert out.read_text() == "labels of a week"
    with pytest.raises(UsageError, match="where the run keeps its labels"):
        draw(judged, judged / LABELS)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"n": 0}, UsageError, "--draw 0: expected 1 to 40"),
        ({"n": 41}, UsageError, "--draw 41: expected 1 to 40, the samples of mode"),
        ({"dimensions": ["creativty"]}, UnknownNameError, "did you mean 'creativity'"),
        ({"tasks": ["psplit_stor"]}, UnknownNameError, "did you mean 'psplit_story'"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(judged, tmp_path, more, error, words):
    with pytest.raises(error, match=words) as caught:
        draw(judged, tmp_path / "drawn.jsonl", **more)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "drawn.jsonl").exists()


def test_labels_are_kept_by_their_whole_key_and_replaced(own, tmp_path):
    drawn = tmp_path / "drawn.jsonl"
    draw(own, drawn, 6)
    fill_in(drawn, every=2)
    taken = take_labels(own, RUBRIC, drawn)
    assert (taken.read, taken.kept) == (6, 6)
    key = next(iter(texts(own)))
    row = {"mode": key[0], "task": TASK, "doc_id": key[1], "sample_idx": key[2]}
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({**row, "dimension": "creativity", "value": 9}))
    fill_in(drawn)
    taken = take_labels(own, RUBRIC, drawn)
    assert (taken.read, taken.kept) == (12, 12)
    take_labels(own, RUBRIC, mine)
    kept = kept_labels(own)[STORY]
    assert kept.pop(LabelKey(key[0], TASK, *key[1:], "creativity")) == 9
    known = texts(own)
    assert all(v == worth(known[k.mode, k.doc_id, k.sample_idx]) for k, v in kept.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "f00d"}, "line 1: id 'f00d' is of no sample of this run"),
        ({"dimension": "wit"}, "line 1: dimension 'wit'; expected one of the rubric"),
        ({"value": 11}, "line 1: value is 11; expected a number on the rubric's scale"),
        ({"value": "7"}, "line 1: value is '7'"),
    ],
)
def test_labels_that_cannot_be_are_refused_and_nothing_is_kept(own, tmp_path, change, words):
    drawn = tmp_path / "drawn.jsonl"
    draw(own, drawn, 3)
    fill_in(drawn)
    first, *rest = rows(drawn)
    drawn.write_text("\n".join(map(json.dumps, [{**first, **change}, *rest])))
    with pytest.raises(DataError, match=words):
        take_labels(own, RUBRIC, drawn)
    assert not (own / LABELS).exists()


def test_a_label_of_no_sample_of_the_run_is_refused(own, tmp_path):
    row = {"mode": "high", "task": TASK, "doc_id": 99, "sample_idx": 0}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({**row, "dimension": "creativity", "value": 9}))
    with pytest.raises(DataError, match=r"line 1: the run has no answer of mode 'high'.*doc_id 99"):
        take_labels(own, RUBRIC, path)


def test_without_a_judge_there_is_nothing_to_calibrate(tmp_path, capsys):
    run = make_run(tmp_path / "run", docs=6)
    drawn = tmp_path / "drawn.jsonl"
    assert main(["calibrate", str(run), "--draw", "6", "--out", str(drawn)]) == 0
    fill_in(drawn)
    capsys.readouterr()
    assert main(["calibrate", str(run), "--labels", str(drawn)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no judge has scored psplit_story by rubric 'story'" in line
    assert "psplit-eval judge" in line
    assert not (run / LABELS).exists()
    judge(run)
    assert main(["calibrate", str(run), "--labels", str(drawn)]) == 0
    with pytest.raises(UsageError, match="by rubric 'other'"):
        take_labels(run, replace(RUBRIC, name="other"), drawn)


def test_from_a_draw_to_what_people_would_say(own, tmp_path, capsys):
    drawn = tmp_path / "drawn.jsonl"
    assert main(["calibrate", str(own), "--draw", "20", "--out", str(drawn), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "file": str(drawn),
        "rows": 40,
        "samples": {TASK: {"high": 20, "normal": 20}},
    }
    fill_in(drawn)
    assert main(["calibrate", str(own), "--labels", str(drawn), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["read"], said["kept"]) == (40, 40)
    (entry,) = said["judgements"]["calibrated"]
    for mode, found in entry["modes"].items():
        assert found["ci_low"] < truth(own, mode) < found["ci_high"]
    assert entry["modes"]["high"]["judge_mean"]["ci_low"] > truth(own, "high")
    assert main(["calibrate", str(own), "--labels", str(drawn)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Judges: calibrated with human labels"
    assert "40 labels read; the run has 40 by this rubric (labels.jsonl)" in lines
    assert not [line for line in lines if line.startswith("Judges: scores")]


def test_what_is_to_be_done_is_said_after_the_draw(own, tmp_path, capsys):
    drawn = tmp_path / "drawn.jsonl"
    assert main(["calibrate", str(own), "--draw", "3", "--out", str(drawn)]) == 0
    text = capsys.readouterr().out
    assert "6 rows to score (psplit_story: 3 of high, 3 of normal)" in text
    assert f"psplit-eval calibrate {own} --rubric story --labels {drawn}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of the arguments --draw --labels is required"),
        (["--draw", "3"], "--draw 3: give --out FILE"),
        (["--draw", "3", "--labels", "x"], "not allowed with"),
        (["--labels", "x", "--out", "y"], "go with --draw"),
        (["--labels", "nowhere.jsonl"], "nowhere.jsonl': cannot be read"),
        (["--draw", "3", "--out", "y", "--rubric", "stroy"], "did you mean 'story'"),
        (["--draw", "3", "--out", "y", "--tasks", ","], "expected names"),
        (["--draw", "3", "--out", "y", "--rubric", "uses"], "give --tasks, or another --rubric"),
    ],
)
def test_bad_commands_are_one_line(judged, arguments, words, capsys):
    assert main(["calibrate", str(judged), *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_kept_labels_of_a_run_that_cannot_be_read_stop_a_report(own, capsys):
    keep_labels(own, STORY, {LabelKey("high", TASK, 0, 0, "creativity"): 1.0})
    (own / LABELS).write_text("{}")
    assert main(["report", str(own)]) == 2
    assert "labels.jsonl', line 1: no mode" in capsys.readouterr().err
