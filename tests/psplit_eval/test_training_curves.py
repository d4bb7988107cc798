"""Logs that training left are found, read and drawn, and what is no log is refused in one line."""

import csv
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import DataError
from psplit_eval.figures import blank_figure
from psplit_eval.training_curves import (
    TrainingLog,
    draw_training,
    find_training_log,
    keep_training_log,
    kept_training_log,
    read_training_log,
)

NAN = math.nan
MODES = ["normal", "high"]
LINES = [
    {"step": 1, "epoch": 0.1, "reward": 0.3, "reward/normal": 0.2, "reward/high": 0.4},
    {"step": 2, "epoch": 0.2, "reward": 0.5, "reward/normal": 0.4, "reward/high": None},
    {"step": 3, "epoch": 0.3, "reward": 0.7, "reward/normal": 0.6, "reward/high": 0.8},
]


def written(path, lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def drawn(folder, lines, modes=MODES):
    folder.mkdir(exist_ok=True)
    (plot,) = draw_training(read_training_log(written(folder / "log.jsonl", lines)), modes, folder)
    return plot


@pytest.fixture
def figures(monkeypatch):
    made = []

    def kept(*size):
        made.append(blank_figure(*size))
        return made[-1]

    monkeypatch.setattr("psplit_eval.figures.blank_figure", kept)
    return made


def test_lines_are_read_by_name_and_step(tmp_path):
    log = read_training_log(written(tmp_path / "log.jsonl", LINES))
    assert log.series["reward/normal"] == ((1, 0.2), (2, 0.4), (3, 0.6))
    (_, _), (step, missing), (_, _) = log.series["reward/high"]
    assert step == 2
    assert math.isnan(missing)


def test_the_log_of_a_trainer_is_read_as_transformers_writes_it(tmp_path):
    """Written by transformers itself; training and evaluation are entries of their own."""
    from transformers.trainer_callback import TrainerState

    history = [
        {"loss": 2.0, "step": 10},
        {"loss": 1.5, "grad_norm": NAN, "step": 20},
        {"eval_loss": 1.7, "eval_runtime": 3.0, "step": 20},
    ]
    TrainerState(log_history=history).save_to_json(str(tmp_path / "trainer_state.json"))
    log = read_training_log(tmp_path / "trainer_state.json")
    assert log.series == {
        "loss": ((10, 2.0), (20, 1.5)),
        "eval_loss": ((20, 1.7),),
        "eval_runtime": ((20, 3.0),),
    }


def test_a_resumed_training_counts_from_where_it_went_on(tmp_path):
    again = [{"step": 2, "reward": 0.9}, {"step": 3, "reward": 1.0}]
    log = read_training_log(written(tmp_path / "log.jsonl", [*LINES, *again]))
    assert log.series["reward"] == ((1, 0.3), (2, 0.9), (3, 1.0))


def test_a_killed_training_leaves_a_line_without_end(tmp_path):
    path = written(tmp_path / "log.jsonl", LINES)
    path.write_text(path.read_text() + '{"step": 4, "rew')
    assert read_training_log(path).series["reward"][-1] == (3, 0.7)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.jsonl", '{"step": 1}\nnot json\n', r"line 2: not json; expected a JSON object"),
        ("log.jsonl", '{"loss": 1}\n', r'line 1: .*"loss".* a number "step"'),
        ("log.jsonl", "[1]\n", r'line 1: \[1\]; expected an object with a number "step"'),
        ("log.jsonl", '{"step": "7"}\n', r'a number "step"'),
        ("log.jsonl", '{"step": NaN}\n', r'a number "step"'),
        ("trainer_state.json", "{", r"line 1: not a trainer_state.json"),
        ("trainer_state.json", '{"log_history": {}}', r'list "log_history"'),
        ("trainer_state.json", "[]", r'list "log_history"'),
        ("trainer_state.json", '{"log_history": [{"loss": 1}]}', r'entry 1: .*number "step"'),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said) as raised:
        read_training_log(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


def test_a_log_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe{")
    for path in (tmp_path / "log.jsonl", tmp_path / "none.jsonl"):
        with pytest.raises(DataError, match="cannot be read as UTF-8"):
            read_training_log(path)


def test_the_log_is_found_in_and_around_a_checkpoint(tmp_path):
    assert find_training_log(tmp_path) is None
    assert find_training_log(tmp_path / "HuggingFaceTB" / "SmolLM2") is None
    for step in (9, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert find_training_log(tmp_path) == tmp_path / "checkpoint-100" / "trainer_state.json"
    (tmp_path / "training_log.jsonl").write_text("")
    assert find_training_log(tmp_path) == tmp_path / "training_log.jsonl"
    (tmp_path / "checkpoint-9" / "trainer_state.json").unlink()
    assert find_training_log(tmp_path / "checkpoint-9") == tmp_path / "training_log.jsonl"


def test_a_panel_a_measure_and_a_line_a_mode(tmp_path, figures):
    more = [{**line, "kl_bits/high_normal": 0.1, "clip_ratio/region_mean": 0.2} for line in LINES]
    plot = drawn(tmp_path, more)
    titles = [axis.get_title() for axis in figures[0].axes]
    assert titles == ["reward", "kl_bits", "clip_ratio/region_mean"]  # no epoch
    names = {(row["measure"], row["line"]) for row in rows(plot.csv)}
    assert names == {
        *(("reward", line) for line in ("", "normal", "high")),
        ("kl_bits", "high_normal"),
        ("clip_ratio/region_mean", ""),
    }
    assert "reward normal: 0.2 at step 1 to 0.6 at step 3" in plot.alt
    assert "Where a line is broken" in plot.caption


def test_missing_values_are_gaps(tmp_path, figures):
    drawn(tmp_path, LINES)
    by_name = {line.get_label(): line for line in figures[0].axes[0].lines}
    high = list(by_name["high"].get_ydata())
    assert [math.isnan(value) for value in high] == [False, True, False]


def test_a_line_is_broken_where_steps_are_missing(tmp_path, figures):
    steps = [*range(10), *range(30, 40)]
    drawn(tmp_path, [{"step": step, "loss": 1.0} for step in steps])
    values = list(figures[0].axes[0].lines[0].get_ydata())
    assert [i for i, value in enumerate(values) if math.isnan(value)] == [10]


def test_without_anything_else_housekeeping_is_drawn(tmp_path):
    plot = drawn(tmp_path, [{"step": 1, "learning_rate": 0.1, "train_runtime": 2.0}])
    assert {row["measure"] for row in rows(plot.csv)} == {"learning_rate", "train_runtime"}


@pytest.mark.parametrize("entries", [[], [{"step": 1}], [{"step": 1, "reward": None}]])
def test_a_log_without_numbers_has_no_picture(entries, tmp_path):
    log = read_training_log(written(tmp_path / "log.jsonl", entries))
    assert draw_training(log, MODES, tmp_path) == []


def test_long_lines_are_means_of_windows_and_the_caption_says_so(tmp_path):
    """By hand: 1 200 steps in windows of twelve, of which the mean of the first is 5.5."""
    lines = [{"step": step, "reward": float(step)} for step in range(1200)]
    plot = drawn(tmp_path, lines)
    table = rows(plot.csv)
    assert len(table) == 100
    assert (table[0]["step"], table[0]["value"], table[0]["points"]) == ("5.5", "5.5", "12")
    assert "means of up to 12 logged steps" in plot.caption


def test_of_many_measures_those_of_modes_are_drawn(tmp_path):
    lines = [
        {"step": s, "entropy_bits/high": 1.0 + s, **dict.fromkeys(map(str, range(20)), s)}
        for s in range(3)
    ]
    plot = drawn(tmp_path, lines)
    measures = list(dict.fromkeys(row["measure"] for row in rows(plot.csv)))
    assert (measures[0], len(measures)) == ("entropy_bits", 12)
    assert "9 more measures are in the log" in plot.caption


numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.inf))


@given(st.dictionaries(st.integers(0, 10**6), numbers, min_size=1, max_size=40))
def test_every_value_that_was_logged_is_read(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    log = read_training_log(written(path, [{"step": s, "x": v} for s, v in values.items()]))
    finite = {s: v for s, v in values.items() if v is not None and math.isfinite(v)}
    found = {s: v for s, v in log.series.get("x", ()) if not math.isnan(v)}
    assert found == finite
    assert ("x" in log.series) == bool(finite)


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_drawn(tmp_path):
    modes = ["_$x", "<b>", "long " * 12, *(f"m{i}" for i in range(6))]
    names = [f"$re_ward$/{mode}" for mode in modes]
    series = dict.fromkeys(names, ((0.0, 1.0), (1.0, NAN), (2.0, 3.0)))
    (plot,) = draw_training(TrainingLog(tmp_path / "$log", series), modes, tmp_path)
    assert plot.png.read_bytes()[:4] == b"\x89PNG"


def test_a_log_is_kept_for_a_run_only_if_it_can_be_read(tmp_path):
    checkpoint, run = tmp_path / "checkpoint", tmp_path / "run"
    checkpoint.mkdir()
    run.mkdir()
    keep_training_log(checkpoint, run)
    assert not list(run.iterdir())
    (checkpoint / "training_log.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(DataError, match="step"):
        keep_training_log(checkpoint, run)
    assert not list(run.iterdir())
    (checkpoint / "training_log.jsonl").write_text('{"step": 1, "loss": 1}\n')
    keep_training_log(checkpoint, run)
    assert find_training_log(run) == run / "training_log.jsonl"


def test_only_a_line_feed_ends_a_line(tmp_path):
    """Logs may hold sampled text, with letters that Python takes for ends of lines."""
    path = tmp_path / "training_log.jsonl"
    lines = ['{"step": 1, "sample": "a\u2028b\x85c", "loss": 1.0}', '{"step": 2, "loss": 0.5}']
    path.write_text("\n".join(lines) + "\n")
    assert read_training_log(path).series["loss"] == ((1.0, 1.0), (2.0, 0.5))


def test_a_number_beyond_floats_is_unknown(tmp_path):
    path = tmp_path / "training_log.jsonl"
    path.write_text('{"step": 1, "loss": %s}\n{"step": 2, "loss": 1}\n' % ("9" * 400))
    (first, second) = read_training_log(path).series["loss"]
    assert math.isnan(first[1])
    assert second == (2.0, 1.0)
    path.write_text('{"step": %s}\n' % ("9" * 400))
    with pytest.raises(DataError, match="step"):
        read_training_log(path)


def test_a_run_keeps_its_own_log_alone(tmp_path):
    """A run may be called as checkpoints are."""
    run = tmp_path / "checkpoint-500"
    run.mkdir()
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 1}]}')
    assert kept_training_log(run) is None
    assert find_training_log(run) is not None
