"""Settings from files and options: what is meant, and complaints that name the place."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psplit_eval.errors import DataError, PsplitError
from psplit_eval.modes import BUILTIN_MODES
from psplit_train.config import Config, DataSettings, MethodSettings, ModelSettings, ModeSettings
from psplit_train.loading import (
    config_dict,
    config_text,
    differences,
    list_values,
    read_config,
    write_config,
)

LEAST = "model: {tiny: {}}\ndata: {task: sums}\n"


@pytest.fixture
def read(tmp_path):
    """A config of the least that one needs, and more."""

    def call(more="", *sets, least=LEAST):
        path = tmp_path / "run.yaml"
        path.write_text(least + more, encoding="utf-8")
        return read_config(path, sets)

    return call


def complaint(read, more="", *sets, least=LEAST):
    with pytest.raises(DataError) as caught:
        read(more, *sets, least=least)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_not_given_has_its_default(read):
    config = read("train:\n  steps: 7\n")
    assert config.train.steps == 7
    assert config.train.queries == Config.model_fields["train"].default.queries
    assert [mode.name for mode in config.modes] == ["normal", "high"]


def test_modes_have_their_prompts_and_roles_when_they_are_read(read):
    normal, high, mine, bare = read(
        "modes: [normal, high, {name: mine, system_prompt: Dare., role: high},"
        " {name: bare, system_prompt: null}]\n"
    ).modes
    assert (normal.system_prompt, normal.role) == (None, "normal")
    assert (high.system_prompt, high.role) == (BUILTIN_MODES["high"].system_prompt, "high")
    assert (mine.system_prompt, mine.role) == ("Dare.", "high")
    assert (bare.system_prompt, bare.role) == (None, "other")


def test_a_built_in_modes_prompt_can_be_taken_away(read):
    high = read("modes: [normal, {name: high, system_prompt: null}]\n").modes[1]
    assert high.mode().system_prompt is None


@pytest.mark.parametrize("written", ["3e-6", "3E-6", "0.000003", "+3e-06", "'3e-6'"])
def test_numbers_are_numbers_however_they_are_written(read, written):
    # PyYAML, which keeps to YAML 1.1, takes 3e-6 for a text.
    assert read(f"train: {{learning_rate: {written}}}\n").train.learning_rate == 3e-6


@pytest.mark.parametrize("word", ["on", "off"])
def test_words_are_words(read, word):
    # In YAML 1.1 these are true and false.
    assert read(f"method: {{sharing: {word}}}\n").method.sharing == word


@pytest.mark.parametrize(("word", "meant"), [("yes", True), ("no", False), ("true", True)])
def test_yes_and_no_are_truth_values_where_one_is_meant(read, word, meant):
    assert read(f"train: {{share_prefixes: {word}}}\n").train.share_prefixes is meant


def test_other_libraries_settings_have_the_values_that_yaml_gives_them(read):
    more = 'train: {trl: {a: 1e-3, b: [true, "true", 12, ~], c: {d: x}, e: -.inf}}\n'
    assert read(more).train.trl == {
        "a": 0.001,
        "b": [True, "true", 12, None],
        "c": {"d": "x"},
        "e": -float("inf"),
    }


@pytest.mark.parametrize(
    ("more", "line", "said"),
    [
        (
            "train:\n  learning_rat: 1\n",
            4,
            "unknown setting 'train.learning_rat': did you mean 'learning_rate'?; correct the name",
        ),
        ("kappa: 1\n", 3, "unknown setting 'kappa': did you mean 'method.kappa'?"),
        ("learning_rate: 1\n", 3, "did you mean 'train.learning_rate' or 'warmup.learning_rate'?"),
        ("xyz: 1\n", 3, "unknown setting 'xyz': known are model, data, modes, method"),
        ("log: {wholly: 1}\n", 3, "known are every, report_to, rollouts_every; correct the name"),
        ("train:\n  steps: many\n", 4, "train.steps 'many', expected a whole number; correct it"),
        ("train:\n\n  steps: 1.5\n", 5, "train.steps '1.5', expected a whole number"),
        ("train: {steps: true}\n", 3, "train.steps 'true', expected a whole number"),
        ("train: {steps: 0}\n", 3, "train.steps '0', expected a number of at least 1"),
        ("train: {top_p: 1.5}\n", 3, "train.top_p '1.5', expected a number of at most 1"),
        ("train: {learning_rate: 0}\n", 3, "train.learning_rate '0', expected a number above 0"),
        ("train: {learning_rate: [1]}\n", 3, "train.learning_rate a list, expected a number"),
        ("reward: {correct: nan}\n", 3, "reward.correct 'nan', expected a finite number"),
        ("reward: {correct: inf}\n", 3, "reward.correct 'inf', expected a finite number"),
        ("train: {share_prefixes: maybe}\n", 3, "'maybe', expected true or false"),
        ("train:\n", 3, "train (empty), expected settings of its own, such as {name: value}"),
        ("train: fast\n", 3, "train 'fast', expected settings of its own"),
        ("engine: {host: [a]}\n", 3, "engine.host a list, expected a text"),
        ("method: {sharing: some}\n", 3, "'some', expected 'on', 'off', 'to_normal' or"),
        ("method: gpro\n", 3, "method: unknown method 'gpro': did you mean 'grpo'?"),
        ("method:\n  eta: 1\n  name: gpro\n", 5, "unknown method 'gpro': did you mean 'grpo'?"),
        ("modes: high\n", 3, "modes 'high', expected a list, such as [a, b]"),
        ("modes:\n- normal\n- name: a\n  etta: 1\n", 6, "'modes[2].etta': did you mean 'eta'?"),
        ("modes:\n- normal\n- eta: 1\n", 5, "no 'modes[2].name', expected one; add it"),
        ("modes:\n- normal\n- a b\n", 5, "mode name 'a b': expected letters, digits"),
        ("modes:\n- a\n- {name: b, reference: c}\n", 5, "mode 'b': its reference 'c' is no mode"),
        ("modes: [a, a]\n", 3, "modes a, a: expected at least one, each name once"),
        ("train:\n  rollouts: 9\n", 4, "train.rollouts 9: expected a multiple of the 2 modes"),
        ("checkpoints:\n  every: 3\ntrain:\n  iterations: 2\n", 4, "checkpoints.every 3: expected"),
        ("stability: {controller: {}}\n", 3, "no 'stability.controller.target_bits'"),
        (
            "stability:\n  controller: {target_bits: 1, low: 2}\n",
            4,
            "stability.controller: low 2 is above high 1; exchange them",
        ),
        ("train: {steps: 1}\ntrain: {steps: 2}\n", 4, "'train' a second time"),
        ("train: &a\n  trl: *a\n", 3, "settings inside one another without end"),
        ("train: {steps: *a}\n", 3, "found undefined alias"),
        ("train: [\n", 4, "correct it"),
    ],
)
def test_a_complaint_is_one_line_with_the_place(read, tmp_path, more, line, said):
    text = complaint(read, more)
    assert said in text
    assert text.startswith(f"{tmp_path / 'run.yaml'}, line {line}: ")


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ("", "line 1: an empty file, expected settings"),
        ("- a\n", "line 1: a list, expected settings by name"),
        ("just this\n", "line 1: 'just this', expected settings by name"),
        ("data: {task: sums}\n", "no 'model', expected one; add it"),
        (
            "data: {task: sums}\nmodel: {tiny: {}, checkpoint: x}\n",
            "line 2: model: expected either checkpoint or tiny; give one of them",
        ),
        (
            "model: {tiny: {}}\ndata: {task: a, file: b}\n",
            "line 2: data: expected exactly one of task, file and hub; give one of them",
        ),
    ],
)
def test_a_file_that_is_no_config(read, whole, said):
    assert said in complaint(read, least=whole)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file; give a YAML file"):
        read_config(tmp_path / "none.yaml")


def test_a_misspelt_name_is_said_before_what_follows_from_it(read):
    assert "did you mean 'task'?" in complaint(
        read, least="model: {tiny: {}}\ndata: {tasc: sums}\n"
    )


def test_options_come_on_top_of_the_file_in_any_order(read):
    more = "train: {steps: 3, queries: 2}\nmethod: {eta: 0.5}\n"
    first = read(more, "train.steps=4", "eta=0.1", "method=grpo")
    second = read(more, "method=grpo", "eta=0.1", "train.steps=4")
    assert first == second
    assert (first.train.steps, first.train.queries) == (4, 2)
    assert (first.method.name, first.method.eta) == ("grpo", 0.1)


def test_a_setting_given_twice_is_the_later_one(read):
    assert read("", "eta=0.1", "eta=0.2").method.eta == 0.2


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("eta=0.1", lambda c: c.method.eta == 0.1),
        ("method.eta=1e-1", lambda c: c.method.eta == 0.1),
        ("tiny.seed=4", lambda c: c.model.tiny.seed == 4),
        ("lora={rank: 8}", lambda c: c.model.lora.rank == 8),
        ("targets=[q_proj, v_proj]", lambda c: c.model.lora.targets == ("q_proj", "v_proj")),
        ("modes=[normal, low]", lambda c: [m.name for m in c.modes] == ["normal", "low"]),
        ("modes.high.eta=0.3", lambda c: [m.eta for m in c.modes] == [None, 0.3]),
        ("target_bits=2", lambda c: c.stability.controller.target_bits == 2),
        ("evaluate={}", lambda c: c.evaluate is not None and c.evaluate.suite is None),
        ("evaluate.suite=paper", lambda c: c.evaluate.suite == "paper"),
        ("entropy_factor=null", lambda c: c.stability.alarms.entropy_factor is None),
        ("entropy_factor=", lambda c: c.stability.alarms.entropy_factor is None),
        ("train.trl.delta=1e-3", lambda c: c.train.trl == {"delta": 0.001}),
        ("trl.delta=yes", lambda c: c.train.trl == {"delta": "yes"}),
        ("options.batch=4", lambda c: c.evaluate.options == {"batch": 4}),
        ("instruction=a = b", lambda c: c.data.instruction == "a = b"),
        ("checkpoint=org/name", lambda c: (c.model.checkpoint, c.model.tiny) == ("org/name", None)),
        ("hub=org/name", lambda c: (c.data.hub, c.data.task) == ("org/name", None)),
    ],
)
def test_an_option_sets_what_its_name_says(read, option, found):
    assert found(read("", option))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("etta=3", "--set etta=3: unknown setting 'etta': did you mean 'method.eta'?"),
        ("method.etta=3", "unknown setting 'method.etta': did you mean 'eta'?"),
        ("metod.eta=3", "unknown setting 'metod.eta': did you mean 'method.eta'?"),
        ("seed=1", "in several sections, expected one of model.tiny.seed, data.seed, train.seed"),
        ("eta", "--set eta: expected NAME=VALUE, such as eta=0.1"),
        ("=3", "expected NAME=VALUE"),
        ("eta=abc", "--set eta=abc: method.eta 'abc', expected a number; correct it"),
        ("eta=", "method.eta (empty), expected a number"),
        ("eta=[1", "--set eta=[1: expected ',' or ']'"),
        ("kappa=-1", "--set kappa=-1: method.kappa '-1', expected a number of at least 0"),
        ("modes.low.eta=1", "mode 'low', expected one of normal, high; correct the name"),
        ("modes.high.etta=1", "did you mean 'eta'?"),
        ("modes=[a, b, c]", "expected a multiple of the 3 modes"),
        ("base=other.yaml", "unknown setting 'base'"),
        ("train={steps: 0}", "--set train={steps: 0}: train.steps '0', expected a number of at"),
        ("micro_batch=7", "--set micro_batch=7: train.micro_batch 7: expected a divisor of the 64"),
    ],
)
def test_a_complaint_about_an_option_names_it(read, option, said):
    assert said in complaint(read, "", option)


def test_two_sources_in_options_are_one_too_many(read):
    text = complaint(read, "", "data.task=sums", "data.file=x.jsonl")
    assert "exactly one of task, file and hub" in text


@pytest.fixture
def files(tmp_path):
    def write(**named):
        for name, content in named.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(content)
        return tmp_path

    return write


def test_a_file_builds_on_another_one(files):
    folder = files(
        low=LEAST + "train: {steps: 5, queries: 3}\nmodes: [a, b]\n",
        middle="base: low.yaml\ntrain: {steps: 6, top_k: 4}\n",
        top="base: middle.yaml\ntrain: {top_k: 9}\nmodes: [c, d]\n",
    )
    config = read_config(folder / "top.yaml")
    assert (config.train.steps, config.train.queries, config.train.top_k) == (6, 3, 9)
    assert [mode.name for mode in config.modes] == ["c", "d"]  # lists are replaced


def test_another_method_starts_from_its_own_settings(files):
    low = LEAST + "method: {name: policy_split, eta: 0.03, kappa: 2, alpha: 0.25}\n"
    folder = files(
        low=low,
        other="base: low.yaml\nmethod: policy_split_stable\n",
        same="base: low.yaml\nmethod: {name: policy_split, eta: 0.1}\n",
    )
    assert read_config(folder / "other.yaml").method == MethodSettings(name="policy_split_stable")
    same = read_config(folder / "same.yaml").method
    assert (same.eta, same.kappa, same.alpha) == (0.1, 2, 0.25)
    chosen = read_config(folder / "low.yaml", ["method=policy_split_stable"]).method
    assert (chosen.eta, chosen.kappa, chosen.alpha) == (0.35, 0, 1)


def test_another_source_takes_the_place_of_the_first(files):
    folder = files(
        low="model: {tiny: {}}\ndata: {hub: a/b, subset: c, held_out: 3}\n",
        top="base: low.yaml\nmodel: {checkpoint: a/b}\ndata: {file: x.jsonl}\n",
    )
    config = read_config(folder / "top.yaml")
    assert (config.data.hub, config.data.subset, config.data.held_out) == (None, None, 3)
    assert (config.model.checkpoint, config.model.tiny) == ("a/b", None)


def test_a_complaint_names_the_file_of_the_setting(files):
    folder = files(low=LEAST + "train:\n  steps: x\n", top="base: low.yaml\nlog: {every: 1}\n")
    with pytest.raises(DataError, match=re.escape(f"{folder / 'low.yaml'}, line 4: ")):
        read_config(folder / "top.yaml")
    folder = files(low=LEAST, top="base: low.yaml\n\ntrain: {steps: x}\n")
    with pytest.raises(DataError, match=re.escape(f"{folder / 'top.yaml'}, line 3: ")):
        read_config(folder / "top.yaml")


@pytest.mark.parametrize("base", ["a.yaml", "b.yaml", "none.yaml", ".", "[b.yaml]"])
def test_files_that_build_on_nothing_or_themselves(files, base):
    folder = files(a=f"base: {base}\n", b="base: a.yaml\n")
    with pytest.raises(DataError, match=r"line 1: base .* expected a file that exists and does"):
        read_config(folder / "a.yaml")


def test_paths_are_relative_to_the_file_and_of_options_to_the_folder_one_is_in(
    tmp_path, monkeypatch, files
):
    (tmp_path / "here" / "weights").mkdir(parents=True)
    there = tmp_path / "there"
    there.mkdir()
    text = (
        "model: {checkpoint: weights, chat_template: t.jinja}\n"
        "data: {file: ../x.jsonl, against: [y.jsonl, /z.jsonl]}\n"
    )
    (tmp_path / "here" / "run.yaml").write_text(text)
    monkeypatch.chdir(there)
    config = read_config(Path("../here/run.yaml"))
    assert config.data.file == tmp_path / "x.jsonl"
    assert config.data.against == (str(tmp_path / "here" / "y.jsonl"), "/z.jsonl")
    assert config.model.chat_template == tmp_path / "here" / "t.jinja"
    assert config.model.checkpoint == str(tmp_path / "here" / "weights")
    given = read_config(Path("../here/run.yaml"), ["file=x.jsonl", "checkpoint=weights"])
    assert given.data.file == there / "x.jsonl"
    assert given.model.checkpoint == "weights"  # no folder here: a name


def test_what_is_written_is_read_back_equal(read, tmp_path):
    config = read(
        "modes: [normal, {name: hot, system_prompt: 'Say: \"on\" # é\\n  twice', role: high}]\n"
        "train: {trl: {a: '1e5', b: 1e5, c: 'null', d: 'true', e: 'on', f: '', g: .inf}}\n"
        "evaluate: {every: 4, options: {x: '007'}}\n"
        "checkpoints: {every: 2}\n"
        "model: {tiny: {characters: '0123 \"#:'}}\n",
        least="data: {file: data/a b.jsonl}\n",
    )
    path = tmp_path / "elsewhere" / "config.yaml"
    path.parent.mkdir()
    write_config(config, path)
    assert read_config(path) == config
    assert path.read_text(encoding="utf-8") == config_text(config)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    prompt=st.text(st.characters(codec="utf-8"), max_size=60),
    value=st.one_of(st.text(max_size=12), st.integers(), st.floats(allow_nan=False), st.booleans()),
)
def test_any_text_survives(tmp_path, prompt, value):
    config = Config(
        model=ModelSettings(tiny={}),
        data=DataSettings(task="sums"),
        modes=(ModeSettings(name="normal"), ModeSettings(name="x", system_prompt=prompt)),
        train={"trl": {"value": value}},
    )
    write_config(config, tmp_path / "config.yaml")
    back = read_config(tmp_path / "config.yaml")
    assert back.modes[1].system_prompt == prompt
    assert back.train.trl == {"value": value}
    assert type(back.train.trl["value"]) is type(value)
    assert config_dict(back) == config_dict(config)


def test_a_configs_dictionary_says_what_defaults_stand_for():
    config = Config(model=ModelSettings(checkpoint="x"), data=DataSettings(file="x.jsonl"))
    found = config_dict(config)
    assert found["data"]["file"] == str(Path.cwd() / "x.jsonl")
    assert found["modes"][1]["system_prompt"] == BUILTIN_MODES["high"].system_prompt
    assert found["train"]["learning_rate"] == 3e-6
    assert found["evaluate"] is None
    assert yaml.safe_load(config_text(config)) == found  # any reader of YAML will do


def test_differences_are_named(read):
    before = read("train: {steps: 3}\n")
    after = read("train: {steps: 4}\nevaluate: {suite: paper}\nmodes: [normal, low]\n")
    found = differences(before, after)
    assert "train.steps: 3, now 4" in found
    assert "evaluate.suite: none, now paper" in found
    assert any(line.startswith("modes: ") for line in found)
    assert not any("learning_rate" in line for line in found)
    assert differences(before, before) == []


def test_values_of_a_sweep():
    found = list_values(
        ["eta=0.01, 0.03", "method=grpo,{name: policy_split, eta: 1}", "modes=[a,b]"]
    )
    assert found == {
        "method.eta": ["0.01", "0.03"],
        "method": ["grpo", "{name: policy_split, eta: 1}"],
        "modes": ["[a,b]"],
    }


@pytest.mark.parametrize("sets", [["eta"], ["eta="], ["eta=1,1"], ["eta=1", "method.eta=2"]])
def test_values_of_a_sweep_that_are_none(sets):
    with pytest.raises(DataError, match=r"--set (method\.)?eta"):
        list_values(sets)


def test_values_of_a_sweep_have_names_that_exist():
    with pytest.raises(DataError, match=r"did you mean 'method\.eta'"):
        list_values(["etta=1,2"])


def outcome(act):
    """'read', or what is complained of."""
    try:
        act()
    except PsplitError as error:
        return str(error)
    return "read"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.text(st.sampled_from("abc: [],{}-\n'\"#&*!|>%@0.~?mode=train"), max_size=40))
def test_any_text_is_read_or_refused_in_one_line(tmp_path, more):
    path = tmp_path / "run.yaml"
    path.write_text(LEAST + more)
    for act in (lambda: read_config(path), lambda: read_config(path, [more])):
        assert "\n" not in outcome(act)
