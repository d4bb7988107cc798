"""Which rows a board has."""

import pytest
from boarding import board, make_run, refused, rows

from psplit_eval.entrants import read_entrants, split_label

NORMAL = {"normal": None}


def named(*runs):
    return [(one.model, one.mode, one.setting) for one in read_entrants(list(map(str, runs)))]


def test_runs_of_one_checkpoint_on_other_tasks_are_one_row(tmp_path):
    a = make_run(tmp_path / "a", tasks=["t"])
    b = make_run(tmp_path / "b", tasks=["u"], modes=NORMAL)
    found = read_entrants([str(a), str(b)])
    assert [(one.mode, set(one.arms)) for one in found] == [("normal", {"t", "u"}), ("high", {"t"})]
    assert found[0].runs == (a, b)
    assert found[0].name == "one, normal"


def test_other_temperatures_are_rows_of_their_own(tmp_path):
    warm = make_run(tmp_path / "warm", modes=NORMAL, sampling={"temperature": 1.0})
    cool = make_run(tmp_path / "cool", modes=NORMAL)
    more = make_run(tmp_path / "u", modes=NORMAL, tasks=["u"], sampling={"temperature": 1.0})
    for order in ([warm, cool, more], [more, cool, warm]):
        found = {one.setting: set(one.arms) for one in read_entrants(list(map(str, order)))}
        assert found == {"temperature 1": {"t", "u"}, "temperature 0.6": {"t"}}


def test_a_row_says_all_of_its_temperatures(tmp_path):
    a = make_run(tmp_path / "a", modes=NORMAL)
    b = make_run(tmp_path / "b", modes=NORMAL, sampling={"temperature": 1.0})
    c = make_run(tmp_path / "c", modes=NORMAL, tasks=["u"], sampling={"temperature": 0.2})
    assert named(a, b, c) == [
        ("one", "normal", "temperature 0.6 / 0.2"),
        ("one", "normal", "temperature 1"),
    ]


def test_settings_that_read_alike_are_told_apart_by_their_runs(tmp_path, capsys):
    close = [
        make_run(tmp_path / name, modes=NORMAL, sampling={"temperature": value})
        for name, value in (("a", 0.7), ("b", 0.70000001))
    ]
    assert [setting for _, _, setting in named(*close)] == [
        "temperature 0.7, run a",
        "temperature 0.7, run b",
    ]
    cut = [
        make_run(tmp_path / name / "run", modes=NORMAL, dtype="x" * 40 + name)
        for name in ("c", "d")
    ]
    settings = [setting for _, _, setting in named(*cut)]
    assert [setting.rpartition(", ")[2] for setting in settings] == ["run run", "run run (2)"]
    found = rows(board(capsys, *close, *cut))
    assert len(found) == 4


def test_thinking_and_precision_tell_rows_apart(tmp_path):
    a = make_run(tmp_path / "a", modes=NORMAL, thinking=True)
    b = make_run(tmp_path / "b", modes=NORMAL, thinking=False)
    c = make_run(tmp_path / "c", modes=NORMAL, thinking=False, dtype="bfloat16")
    assert [setting for _, _, setting in named(a, b, c)] == [
        "precision float32, thinking True",
        "precision float32, thinking False",
        "precision bfloat16, thinking False",
    ]


def test_equal_names_of_other_files_are_told_apart(tmp_path):
    a = make_run(tmp_path / "a", "org/model", modes=NORMAL, fingerprint="a" * 64)
    b = make_run(tmp_path / "b", "org/model", modes=NORMAL, fingerprint="b" * 64)
    c = make_run(tmp_path / "c", "other/model", modes=NORMAL, fingerprint="c" * 64)
    assert [model for model, _, _ in named(a, b)] == [
        "org/model (aaaaaaaa)",
        "org/model (bbbbbbbb)",
    ]
    assert [model for model, _, _ in named(a, c)] == ["org/model", "other/model"]
    assert [model for model, _, _ in named(c)] == ["model"]
    labelled = [model for model, _, _ in named(f"x={a}", f"y={b}", c)]
    assert labelled == ["x", "y", "model"]


def test_one_checkpoint_with_two_labels_is_two_rows(tmp_path):
    a, b = make_run(tmp_path / "a", modes=NORMAL), make_run(tmp_path / "b", modes=NORMAL)
    assert [model for model, _, _ in named(f"seed 0={a}", f"seed 1={b}")] == ["seed 0", "seed 1"]


def test_served_models_are_known_by_their_names(tmp_path):
    a = make_run(tmp_path / "a", "m", modes=NORMAL, fingerprint=None)
    b = make_run(tmp_path / "b", "m", modes=NORMAL, tasks=["u"], fingerprint=None)
    assert len(named(a, b)) == 1
    c = make_run(tmp_path / "c", "n", modes=NORMAL, fingerprint=None)
    assert len(named(a, c)) == 2


def test_two_runs_of_the_same_are_refused(tmp_path, capsys):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", docs=range(3))
    line = refused(capsys, a, b)
    assert f"'{a}' and '{b}'" in line
    assert "checkpoint 'one' in mode 'normal' on task 't'" in line
    assert f"NAME={b}" in line
    assert str(a) in refused(capsys, a, a)


def test_one_label_of_two_checkpoints_is_refused(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", "one"), make_run(tmp_path / "b", "two")
    line = refused(capsys, f"x={a}", f"x={b}")
    assert "label 'x': of two checkpoints" in line
    assert str(a) in line
    assert str(b) in line


def test_labels_and_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eta=0.1").mkdir()
    assert split_label("eta=0.1") == ("", type(tmp_path)("eta=0.1"))
    assert split_label("x=eta=0.1") == ("x", type(tmp_path)("eta=0.1"))
    for wrong in ("=runs/a", "x="):
        assert "NAME=RUN" in refused(capsys, wrong)


@pytest.mark.parametrize("given", [[], ["nowhere"], ["x=nowhere"]])
def test_what_is_no_run(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ("'nowhere': no run" if given else "expected one or more") in refused(capsys, *given)
