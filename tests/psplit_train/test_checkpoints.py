"""Checkpoints are whole or not there, the right ones stay, and what is published opens."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.adapters import with_adapter
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import CheckpointError, InfrastructureError
from psplit_eval.modes import BUILTIN_MODES, ROLES, Mode, checkpoint_modes
from psplit_train.checkpoints import (
    adapter_base,
    commit,
    complete,
    full_disk,
    latest,
    publish,
    rotate,
    staged,
    sweep_partial,
    write_modes,
)

STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_1.pth", "trainer_state.json")


def made(out, step, text="whole"):
    folder = staged(out, step)
    (folder / "model.safetensors").write_text(text)
    return commit(folder, out, step)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def trained(tiny, tmp_path):
    """A checkpoint as Trainer leaves it, with what psplit adds."""
    folder = tmp_path / "run" / "checkpoint-8"
    shutil.copytree(tiny, folder)
    for name in (*STATE, "training_args.bin"):
        (folder / name).write_text("state")
    (folder / "global_step8").mkdir()
    (folder / "README.md").write_text("a card")
    (folder / "training_log.jsonl").write_text('{"step": 8, "reward/normal": 0.5}\n')
    write_modes(folder, [BUILTIN_MODES["normal"], BUILTIN_MODES["high"]])
    return folder


def test_a_checkpoint_has_its_name_only_when_it_is_committed(tmp_path):
    folder = staged(tmp_path, 3)
    (folder / "model.safetensors").write_text("half")
    assert complete(tmp_path) == []
    assert latest(tmp_path) is None
    (folder / "model.safetensors").write_text("whole")
    place = commit(folder, tmp_path, 3)
    assert complete(tmp_path) == [(3, place)]
    assert (place / "model.safetensors").read_text() == "whole"
    assert names(tmp_path) == ["checkpoint-3"]


def test_a_trainer_of_transformers_writes_into_the_staged_folder(tiny, tmp_path):
    """The real one, whose names for a checkpoint's folder are its own."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    class Staging(Trainer):
        saving = None

        def _get_output_dir(self, trial):
            return str(self.saving.parent) if self.saving else super()._get_output_dir(trial)

        def _save_checkpoint(self, model, trial):
            step = self.state.global_step
            self.saving = staged(tmp_path, step)
            super()._save_checkpoint(model, trial)
            commit(self.saving, tmp_path, step)
            self.saving = None

    rows = [{"input_ids": torch.tensor([1, 5, 6, 2]), "labels": torch.tensor([1, 5, 6, 2])}] * 8
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=4,
        save_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        per_device_train_batch_size=2,
    )

    def trainer():
        model = AutoModelForCausalLM.from_pretrained(tiny)
        return Staging(model, arguments, train_dataset=rows)

    trainer().train()
    assert [step for step, _ in complete(tmp_path)] == [2, 4]
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]
    kept = dict(complete(tmp_path))
    assert "optimizer.pt" in names(kept[2])
    again = trainer()
    again.train(resume_from_checkpoint=str(kept[2]))
    assert again.state.global_step == 4


def test_nothing_written_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="_get_output_dir"):
        commit(staged(tmp_path, 3), tmp_path, 3)
    assert complete(tmp_path) == []


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path):
    made(tmp_path, 3, "first")
    assert (made(tmp_path, 3, "second") / "model.safetensors").read_text() == "second"
    assert names(tmp_path) == ["checkpoint-3"]


def test_steps_are_ordered_as_numbers_and_other_names_are_passed_over(tmp_path):
    for step in (10, 9, 100):
        made(tmp_path, step)
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert [step for step, _ in complete(tmp_path)] == [9, 10, 100]
    assert latest(tmp_path) == tmp_path / "checkpoint-100"
    assert complete(tmp_path / "absent") == []


@given(
    steps=st.sets(st.integers(1, 50), max_size=8),
    keep=st.integers(0, 4),
    protected=st.sets(st.integers(1, 50), max_size=3),
)
def test_the_newest_and_the_protected_stay(tmp_path_factory, steps, keep, protected):
    out = tmp_path_factory.mktemp("out")
    for step in steps:
        (out / f"checkpoint-{step}").mkdir()
    gone = rotate(out, keep, protected)
    left = {step for step, _ in complete(out)}
    assert left == set(sorted(steps, reverse=True)[:keep]) | (protected & steps)
    assert gone == sorted(steps - left)


def test_leftovers_are_swept_and_a_folder_that_was_moved_aside_comes_back(tmp_path):
    made(tmp_path, 2)
    (staged(tmp_path, 4) / "model.safetensors").write_text("half")
    (tmp_path / ".removed-checkpoint-1").mkdir()
    made(tmp_path, 3, "kept").rename(tmp_path / ".replaced-checkpoint-3")
    made(tmp_path, 5, "new")
    (tmp_path / ".replaced-checkpoint-5").mkdir()
    swept = sweep_partial(tmp_path)
    assert sorted(path.name for path in swept) == [
        ".partial-checkpoint-4",
        ".removed-checkpoint-1",
        ".replaced-checkpoint-5",
    ]
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3", "checkpoint-5"]
    assert (tmp_path / "checkpoint-3" / "model.safetensors").read_text() == "kept"
    assert sweep_partial(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from psplit_train.checkpoints import commit, rotate, staged, sweep_partial
out, step = Path(sys.argv[1]), int(sys.argv[2])
sweep_partial(out)
print("ready", flush=True)
while True:
    step += 1
    number = step % 3 + 1  # the same few steps again and again: replaced, rotated, written anew
    folder = staged(out, number)
    for name in range(5):
        (folder / f"part-{name}").write_text(f"{step}\\n" * 2000)
    commit(folder, out, number)
    rotate(out, 2)
"""


def test_a_kill_at_any_moment_leaves_only_whole_checkpoints(tmp_path):
    draw = random.Random(0)
    for turn in range(12):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(1000 * turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(0.02 + draw.random() * 0.15)
            writer.send_signal(signal.SIGKILL)
        for _, folder in complete(tmp_path):
            parts = [(folder / f"part-{name}").read_text() for name in range(5)]
            assert len(set(parts)) == 1
            assert parts[0].count("\n") == 2000
    sweep_partial(tmp_path)
    assert 1 <= len(complete(tmp_path)) <= 3
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@given(
    st.lists(
        st.builds(
            Mode,
            st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.sampled_from(ROLES),
            st.dictionaries(st.sampled_from(["temperature", "top_p"]), st.floats(0.1, 1.0)),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda mode: mode.name,
    )
)
def test_modes_are_read_back_as_they_were_written(tmp_path_factory, modes):
    folder = tmp_path_factory.mktemp("modes")
    write_modes(folder, modes)
    assert list(checkpoint_modes(folder).values()) == modes


def test_what_is_published_is_the_model_alone_and_opens(trained):
    final = publish(trained, trained.parent / "final")
    assert not {*STATE, "training_args.bin", "global_step8"} & set(names(final))
    assert {"README.md", "training_log.jsonl", "psplit_modes.json"} <= set(names(final))
    opened = resolve_checkpoint(str(final))
    assert opened.files["model.safetensors"]
    assert list(checkpoint_modes(final)) == ["normal", "high"]
    before, after = ((f / "model.safetensors").read_bytes() for f in (trained, final))
    assert before == after


def test_a_published_folder_is_replaced_as_a_whole(trained):
    final = publish(trained, trained.parent / "final")
    (final / "left-over.txt").write_text("of an earlier training")
    (trained / "README.md").write_text("another card")
    publish(trained, final)
    assert (final / "README.md").read_text() == "another card"
    assert "left-over.txt" not in names(final)
    assert names(trained.parent) == ["checkpoint-8", "final"]


def test_an_adapter_is_published_with_its_modes_and_opens_on_its_base(tiny, adapter, tmp_path):
    folder = tmp_path / "checkpoint-8"
    shutil.copytree(adapter, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, folder)
    (folder / "optimizer.pt").write_text("state")
    (folder / "ref").mkdir()
    (folder / "ref" / "adapter_model.safetensors").write_text("of the reference")
    final = publish(folder, tmp_path / "final")
    assert {"optimizer.pt", "ref"}.isdisjoint(names(final))
    assert adapter_base(final) == str(tiny)
    opened = with_adapter(resolve_checkpoint(adapter_base(final)), final)
    assert opened.adapter == final
    assert list(checkpoint_modes(final)) == ["bold"]


@pytest.mark.parametrize(
    ("missing", "said"),
    [("model.safetensors", "weights"), ("config.json", "config.json"), ("tokenizer", "tokenizer")],
)
def test_what_could_not_be_opened_is_not_published(missing, said, trained):
    for path in trained.glob(f"{missing}*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=said):
        publish(trained, trained.parent / "final")
    assert not (trained.parent / "final").exists()


def test_a_whole_model_has_no_base_and_an_adapter_has_to_name_one(tiny, adapter, tmp_path):
    assert adapter_base(tiny) is None
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": None}))
    with pytest.raises(CheckpointError, match="base_model_name_or_path"):
        adapter_base(folder)


def test_a_disk_that_fails_is_said_in_one_line(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InfrastructureError) as raised:
        staged(tmp_path / "out", 1)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a disk that is full")
def test_a_full_disk_is_one_line_whoever_finds_it(tmp_path):
    import torch

    for write in (
        lambda: torch.save(torch.zeros(100_000), "/dev/full"),
        lambda: Path("/dev/full").write_text("x" * 100_000),
    ):
        full = pytest.raises(InfrastructureError, match="no space left")
        with full as error, full_disk(tmp_path):
            write()
        assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="shape"), full_disk(tmp_path):
        raise RuntimeError("shape of the tensors")
