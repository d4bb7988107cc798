"""Names of settings, whole and short."""

import pytest

from psplit_eval.errors import UsageError
from psplit_train.config import Config
from psplit_train.names import names, paths, setting_name


def test_every_setting_is_found_by_its_whole_name():
    every = list(names(Config))
    assert ("model", "tiny", "seed") in every
    assert len(every) > 100
    assert [setting_name(".".join(name)) for name in every] == every


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("eta", "method.eta"),
        ("tiny.seed", "model.tiny.seed"),
        ("window", "stability.alarms.window"),
        ("controller", "stability.controller"),
        ("train.seed", "train.seed"),
        ("modes.low.eta", "modes.low.eta"),
        ("trl.any.thing", "train.trl.any.thing"),
    ],
)
def test_short_names(text, whole):
    assert ".".join(setting_name(text)) == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("every", "checkpoints.every, evaluate.every, log.every; give the whole name"),
        ("learning_rat", "did you mean 'train.learning_rate' or 'warmup.learning_rate'?"),
        ("zzz", "unknown setting 'zzz'; correct the name"),
        ("", "unknown setting ''"),
        ("modes.eta", "unknown setting 'modes.eta'"),
    ],
)
def test_names_that_are_none(text, said):
    with pytest.raises(UsageError) as caught:
        setting_name(text)
    assert said in str(caught.value)


def test_settings_that_are_paths():
    assert {("data", "file"), ("model", "chat_template")} <= set(paths(Config))
    assert ("model", "checkpoint") not in set(paths(Config))  # may be a name
