"""Modes as data: built-ins, options, and a checkpoint's own declaration."""

import json

import pytest

from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.modes import (
    BUILTIN_MODES,
    Mode,
    checkpoint_modes,
    holds_system_prompt,
    parse_mode,
    resolve_modes,
)


def test_builtin_normal_mode_sends_no_system_prompt_and_the_others_do():
    assert BUILTIN_MODES["normal"].system_prompt is None
    prompts = [BUILTIN_MODES[name].system_prompt for name in ("high", "high_rewritten", "low")]
    assert all(prompts)
    assert len(set(prompts)) == 3


def test_modes_keep_the_order_they_are_named_in():
    assert [m.name for m in resolve_modes(["high", "normal"])] == ["high", "normal"]


def test_a_given_mode_is_added_and_overrides_a_builtin_one(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Think sideways.\n")
    modes = resolve_modes(["normal", "high"], [parse_mode(f"high=@{file}"), parse_mode("b=Be odd")])
    assert [(m.name, m.system_prompt, m.role) for m in modes] == [
        ("normal", None, "normal"),
        ("high", "Think sideways.", "high"),
        ("b", "Be odd", "other"),
    ]


def test_an_empty_prompt_means_no_system_message():
    assert parse_mode("again=").system_prompt is None


def test_a_checkpoints_own_modes_win_over_the_builtin_ones(tmp_path):
    declared = Mode("high", "Trained prompt.", "high", {"temperature": 0.9})
    (tmp_path / "psplit_modes.json").write_text(
        json.dumps({"format": 1, "modes": [declared.to_dict()]})
    )
    (mode,) = resolve_modes(["high"], declared=checkpoint_modes(tmp_path))
    assert mode == declared


def test_a_checkpoint_without_a_modes_file_declares_none(tmp_path):
    assert checkpoint_modes(tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"format": 2, "modes": []}',
        '{"format": 1}',
        '{"format": 1, "modes": [{"name": "a", "system_prompt": 7}]}',
        '{"format": 1, "modes": [{"system_prompt": "x"}]}',
    ],
)
def test_a_malformed_modes_file_is_a_data_error_that_names_it(tmp_path, text):
    (tmp_path / "psplit_modes.json").write_text(text)
    with pytest.raises(DataError, match=r"psplit_modes\.json.*expected"):
        checkpoint_modes(tmp_path)


def test_an_unknown_mode_is_answered_with_a_guess():
    with pytest.raises(UnknownNameError, match="'hihg': did you mean 'high'"):
        resolve_modes(["normal", "hihg"])


@pytest.mark.parametrize("names", [[], ["normal", "normal"]])
def test_no_mode_and_a_repeated_mode_are_refused(names):
    with pytest.raises(UsageError):
        resolve_modes(names)


@pytest.mark.parametrize("text", ["high", "a b=x", "=x", "x=@/no/such/file"])
def test_an_unusable_mode_option_is_refused(text):
    with pytest.raises(UsageError):
        parse_mode(text)


def test_the_prompt_hash_tells_prompts_apart_but_not_labels():
    assert Mode("a", "x").prompt_hash == Mode("b", "x").prompt_hash != Mode("a", "y").prompt_hash
    assert Mode("a", None).prompt_hash == "none"


def test_a_prompt_holds_a_modes_system_prompt_or_does_not():
    bold = Mode("high", 'Be "bold",\nand  brief. ')
    assert holds_system_prompt(bold, 'system\nBe "bold", and brief.\nuser\nHi')
    sent = json.dumps([{"role": "system", "content": bold.system_prompt.strip()}])
    assert holds_system_prompt(bold, sent)
    assert not holds_system_prompt(bold, "user\nBe bold")
    assert holds_system_prompt(Mode("normal", None), "user\nHi")
