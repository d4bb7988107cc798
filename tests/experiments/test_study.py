"""Studies are read from YAML, and say in which order their trainings come."""

import re
from pathlib import Path

import pytest
import yaml

from experiments.study import read_study
from psplit_eval.errors import DataError, UnknownNameError
from psplit_train.keeping import read_requests

STUDIES = Path(__file__).parents[2] / "experiments"
TRAIN = {
    "model": {"checkpoint": "start"},
    "data": {"task": "sums", "held_out": 4},
    "modes": ["normal", {"name": "high", "system_prompt": "a", "role": "high"}],
    "train": {"steps": 5, "max_new_tokens": 6},
    "checkpoints": {"every": 2, "keep": 2},
}
CONTENT = {
    "title": "A study",
    "about": "What it asks.",
    "config": "train.yaml",
    "start": {"model": {"characters": "0123+"}, "warmup": {"steps": 3}},
    "prompts": {"rewritten": "b", "low": "c", "placebos": ["d"]},
    "evaluate": {"steps": [4]},
    "reference": "GRPO",
    "candidates": ["split"],
    "arms": [
        {"name": "base", "seeds": 2, "main": True},
        {"name": "other", "seeds": 2, "set": {"method.eta": "0.1"}},
        {"name": "GRPO", "seeds": 2, "main": True, "set": {"method.name": "grpo"}},
        {"name": "split", "seeds": 3, "main": True},
    ],
}


def written(tmp_path, train=None, **changes):
    path = tmp_path / "study.yaml"
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({**TRAIN, **(train or {})}))
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
    study = read_study(STUDIES / "language.yaml")
    requests = read_requests(study.start.warmup.keep.requests)
    assert len(requests) == 100
    assert study.creative.tasks == ("psplit_story", "psplit_uses", "psplit_solve")
    asked_for = r"\b(stor(y|ies)|uses?|unusual|solv\w+|solutions?|goal)\b"
    assert not [text for text in requests if re.search(asked_for, text.lower())]


@pytest.mark.parametrize(
    "path",
    sorted({*STUDIES.glob("*.yaml")} - {*STUDIES.glob("*_train.yaml")}),
    ids=lambda path: path.stem,
)
def test_every_arm_of_a_committed_study_can_be_trained_and_evaluated(path):
    read_study(path).check()


@pytest.mark.parametrize(
    ("train", "changes", "said"),
    [
        ({}, {"evaluate": {"steps": [5, 2]}}, r"evaluate\.steps 2: .* kept \(4, 5\)"),
        ({"checkpoints": {}}, {}, r"evaluate\.steps 4: .* kept \(5\)"),
        ({"modes": ["normal", {**TRAIN["modes"][1], "name": "warm"}]}, {}, "modes normal, warm"),
        ({"data": {"file": "questions.jsonl"}}, {}, "data: expected a generated task"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_it_is_trained(tmp_path, train, changes, said):
    read_study(written(tmp_path)).check()
    study = read_study(written(tmp_path, train, **changes))
    with pytest.raises(DataError, match=f"arm 'other': {said}") as caught:
        study.check()
    assert "\n" not in str(caught.value)


def framed(folder, requests="1 + 1", train=None, **changes):
    """The sum of a study in a folder of its own, whose warm-up keeps something."""
    folder.mkdir(exist_ok=True)
    (folder / "requests.txt").write_text(requests)
    keep = {"requests": "requests.txt"}
    start = {"checkpoint": "any", "warmup": {"steps": 3, "keep": keep, **changes.pop("warmup", {})}}
    study = read_study(written(folder, train, start=start, **changes))
    return study.frame(study.arm("base"))


def test_the_sum_of_a_study_is_of_its_start_its_prompts_and_how_it_is_evaluated(tmp_path):
    found = [
        framed(tmp_path),
        framed(tmp_path, "1 + 2"),
        framed(tmp_path, warmup={"steps": 4}),
        framed(tmp_path, prompts={**CONTENT["prompts"], "low": "e"}),
        framed(tmp_path, evaluate={"steps": [5]}),
        framed(tmp_path, evaluate={"steps": [4], "samples": 8}),
        framed(tmp_path, evaluate={"steps": [4], "docs": 2}),
        framed(tmp_path, train={"model": {"checkpoint": "start", "dtype": "bfloat16"}}),
    ]
    (tmp_path / "a.jinja").write_text("a")
    template = {"model": {"checkpoint": "start", "chat_template": "a.jinja"}}
    found.append(framed(tmp_path, train=template))
    (tmp_path / "a.jinja").write_text("b")
    assert len({*found, framed(tmp_path, train=template)}) == len(found) + 1


def test_where_a_study_lies_and_what_is_added_to_it_is_not_in_its_sum(tmp_path):
    before = framed(tmp_path / "here")
    assert framed(tmp_path / "there") == before
    assert framed(tmp_path, warmup={"folder": "kept"}) == before
    assert framed(tmp_path, evaluate={"steps": [4], "temperatures": [2]}) == before
    assert framed(tmp_path, creative={"tasks": ["psplit_words"]}, title="t") == before
    assert framed(tmp_path, train={"model": {"checkpoint": "elsewhere"}}) == before


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
        ({"arms": [*CONTENT["arms"], {"name": "split"}]}, "name 'split' 2 times"),
        ({"arms": [{"name": "GRPO", "seeds": 0}]}, "arms.0.seeds"),
        ({"margin": 2}, "margin"),
        ({"titel": "x"}, "titel"),
        ({"ablations": [{"title": "t", "setting": "eta", "arms": ["etas"]}]}, "etas"),
        (
            {"ablations": [{"title": "t", "setting": "etta", "arms": []}]},
            "did you mean 'method.eta",
        ),
        ({"reference": "base"}, "trained arm"),
        ({"candidates": ["split", "base"]}, "trained arm"),
        ({"arms": [*CONTENT["arms"], {"name": "Split", "set": {"a": "1"}}]}, r"split-0\.json"),
        ({"arms": [*CONTENT["arms"], {"name": "s"}]}, "settings '{}' 2 times"),
        ({"arms": [{"name": "base", "set": {"a": "1"}}, *CONTENT["arms"][1:]]}, "no settings"),
        ({"evaluate": {"steps": [4], "samples": 7}}, r"evaluate\.samples"),
        ({"evaluate": {"steps": []}}, r"evaluate\.steps"),
        ({"prompts": {**CONTENT["prompts"], "placebos": []}}, r"prompts\.placebos"),
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
    for content in (b"a: [", b"\xff"):
        broken.write_bytes(content)
        with pytest.raises(DataError, match="not YAML"):
            read_study(broken)
