"""Studies are read from YAML, and say in which order their trainings come."""

import re
from pathlib import Path

import pytest
import yaml

from experiments.study import read_study
from psplit_eval.errors import DataError, UnknownNameError
from psplit_train.keeping import read_requests

CONTENT = {
    "title": "A study",
    "about": "What it asks.",
    "config": "train.yaml",
    "start": {"model": {"characters": "0123+"}, "warmup": {"steps": 3}},
    "prompts": {"rewritten": "b", "low": "c", "placebos": ["d"]},
    "evaluate": {"steps": [2]},
    "reference": "GRPO",
    "candidates": ["split"],
    "arms": [
        {"name": "base", "seeds": 2, "main": True},
        {"name": "other", "seeds": 2, "set": {"method.eta": "0.1"}},
        {"name": "GRPO", "seeds": 2, "main": True, "set": {"method.name": "grpo"}},
        {"name": "split", "seeds": 3, "main": True},
    ],
}


def written(tmp_path, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return path


def test_trainings_come_seed_by_seed_those_of_the_main_table_first(tmp_path):
    study = read_study(written(tmp_path))
    assert [(arm.name, cell.seed) for arm, cell in study.cells()] == [
        *(("GRPO", 0), ("split", 0), ("GRPO", 1), ("split", 1), ("split", 2)),
        *(("other", 0), ("other", 1)),
    ]


def test_the_base_is_no_training(tmp_path):
    study = read_study(written(tmp_path))
    assert [arm.name for arm in study.trained] == ["other", "GRPO", "split"]


def test_requests_lie_beside_the_study_and_are_none_of_its_creative_tasks(tmp_path):
    keep = {"requests": "requests.txt"}
    start = {"checkpoint": "any", "warmup": {"steps": 3, "keep": keep}}
    found = read_study(written(tmp_path, start=start)).start.warmup.keep
    assert found.requests == tmp_path / "requests.txt"
    study = read_study(Path("experiments/language.yaml"))
    requests = read_requests(study.start.warmup.keep.requests)
    assert len(requests) == 100
    assert study.creative.tasks == ("psplit_story", "psplit_uses", "psplit_solve")
    asked_for = r"\b(stor(y|ies)|uses?|unusual|solv\w+|solutions?|goal)\b"
    assert not [text for text in requests if re.search(asked_for, text.lower())]


@pytest.mark.parametrize(
    "path",
    sorted({*Path("experiments").glob("*.yaml")} - {*Path("experiments").glob("*_train.yaml")}),
)
def test_every_arm_of_a_committed_study_can_be_trained_and_evaluated(path):
    study = read_study(path)
    for arm in study.trained:
        config = study.configured(arm)
        kept = config.train.steps - config.checkpoints.every * config.checkpoints.keep
        assert all(
            step % config.checkpoints.every == 0 and kept < step <= config.train.steps
            for step in study.evaluate.steps
        )


def test_the_config_lies_beside_the_study(tmp_path):
    assert read_study(written(tmp_path)).config == tmp_path / "train.yaml"


def test_an_arm_has_a_name(tmp_path):
    study = read_study(written(tmp_path))
    assert study.arm("split").seeds == 3
    with pytest.raises(UnknownNameError, match=r"splitt.*did you mean 'split'"):
        study.arm("splitt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reference": "GRP"}, "did you mean 'GRPO'"),
        ({"candidates": ["none"]}, "none"),
        ({"arms": [*CONTENT["arms"], {"name": "split"}]}, "each name once"),
        ({"arms": [{"name": "GRPO", "seeds": 0}]}, "arms.0.seeds"),
        ({"margin": 2}, "margin"),
        ({"titel": "x"}, "titel"),
        ({"ablations": [{"title": "t", "setting": "s", "arms": ["etas"]}]}, "etas"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, changes, said):
    with pytest.raises(DataError, match=said) as caught:
        read_study(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no_study\.yaml"):
        read_study(tmp_path / "no_study.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(DataError, match="not YAML"):
        read_study(broken)
