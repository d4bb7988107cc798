"""What a study's trainings start from."""

import json
from pathlib import Path

import pytest
import yaml

from experiments.__main__ import kept_start, main
from experiments.records import read_records
from experiments.study import read_study
from psplit_eval.errors import DataError
from psplit_train.config import TinySettings
from psplit_train.tiny import make_tiny

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

CONTENT = {
    "title": "A study",
    "about": "What it asks.",
    "config": "train.yaml",
    "prompts": {"rewritten": "b", "low": "c", "placebos": ["d"]},
    "evaluate": {"steps": [1], "samples": 8},
    "reference": "GRPO",
    "candidates": ["GRPO"],
    "arms": [{"name": "base", "seeds": 1, "main": True}, {"name": "GRPO"}],
}


def written(tmp_path, start):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, "start": start}))
    return path


def test_a_study_may_start_from_a_checkpoint_as_it_is(tmp_path):
    start = read_study(written(tmp_path, {"checkpoint": "smollm2-135m"})).start
    assert (start.checkpoint, start.model, start.warmup.steps) == ("smollm2-135m", None, 0)


@pytest.mark.parametrize(
    "start", [{}, {"warmup": {"steps": 3}}, {"checkpoint": "smollm2-135m", "model": {}}]
)
def test_a_study_starts_from_one_thing(tmp_path, start):
    with pytest.raises(DataError, match=r"start: .*either model or checkpoint"):
        read_study(written(tmp_path, start))


@pytest.mark.parametrize("steps", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_the_base_is_the_checkpoint_or_what_a_warm_up_makes_of_it(tmp_path, monkeypatch, steps):
    """A checkpoint that was made before, with and without a warm-up of its own."""
    monkeypatch.chdir(tmp_path)
    given = make_tiny(TinySettings(layers=1, width=16, heads=2), tmp_path / "given")
    (tmp_path / "requests.txt").write_text("1 + 1")
    keep = {"requests": "requests.txt", "max_tokens": 4}
    start = {"checkpoint": str(given), "warmup": {"steps": steps, "batch": 4, "keep": keep}}
    config = {"model": {"checkpoint": "start"}, "data": {"task": "sums", "held_out": 4}}
    config["data"]["instruction"] = ""
    config["modes"] = ["normal", {"name": "high", "system_prompt": "a", "role": "high"}]
    config["train"] = {"steps": 1, "max_new_tokens": 6}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    path = written(tmp_path, start)
    assert main([str(path), "--arms", "base", "--pages", "pages"]) == 4  # GRPO is not there
    (record,) = read_records(tmp_path / "records" / "study")
    assert set(record.evaluations[0].values["held_out"]) == {"normal", "high"}
    out = tmp_path / "runs" / "experiments" / "study"
    manifest = next((out / "base" / "0").glob("eval-0/manifest.json"))
    model = json.loads(manifest.read_text())["checkpoint"]["path"]
    assert model == str(out / "start" if steps else given)
    assert (out / "start" / "psplit_warmup.json").is_file() is bool(steps)
    if steps:
        assert "requests" in json.loads((out / "start" / "psplit_warmup.json").read_text())


@pytest.mark.parametrize("name", ["sums", "walks"])
def test_a_committed_start_is_that_of_its_study(name, tmp_path):
    kept = EXPERIMENTS / "starts" / name
    assert kept_start(read_study(EXPERIMENTS / f"{name}.yaml"), kept, tmp_path) == kept


@pytest.mark.parametrize(("steps", "said"), [(5, "'steps': 5"), (0, "expected the study's none")])
def test_a_kept_start_of_another_warm_up_is_refused(tmp_path, steps, said):
    study = read_study(written(tmp_path, {"model": {}, "warmup": {"steps": steps}}))
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "psplit_warmup.json").write_text('{"settings": {"steps": 3}}')
    with pytest.raises(DataError, match=rf"kept: warm-up \{{'steps': 3\}}.*{said}") as caught:
        kept_start(study, kept, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["language", "smollm2"])
def test_prompts_of_a_committed_study_of_a_checkpoint_differ(name):
    prompts = read_study(EXPERIMENTS / f"{name}.yaml").prompts
    assert len({prompts.rewritten, prompts.low, *prompts.placebos}) == 5
