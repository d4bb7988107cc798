"""A chat model made from nothing: it opens everywhere, and says what it has no token for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import DataError, RunMismatchError, UsageError
from psplit_eval.hf import HFBackend
from psplit_eval.requests import Request, Sampling
from psplit_train.config import TinySettings
from psplit_train.tiny import TINY_TEMPLATE, check_text, make_tiny

SMALL = TinySettings(layers=1, width=16, heads=2, characters="0123456789+! \n")
ASKED = [{"role": "system", "content": "!"}, {"role": "user", "content": "12"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(SMALL, tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_the_same_settings_give_the_same_files(folder, tmp_path):
    again = make_tiny(SMALL, tmp_path / "again")
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in again.iterdir())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in files)
    other = make_tiny(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() != (other / weights).read_bytes()


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    import torch

    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    make_tiny(SMALL, tmp_path / "tiny")
    assert torch.equal(torch.rand(3), wanted)


def test_a_prompt_is_as_short_as_it_can_be(tokenizer):
    def tokens(messages, ask=True):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    assert tokens(ASKED) == ["<system>", "!", "<user>", "1", "2", "<assistant>"]
    assert tokens(ASKED[1:]) == ["<user>", "1", "2", "<assistant>"]
    said = [*ASKED[1:], {"role": "assistant", "content": "9"}, *ASKED[1:]]
    turn = ["<user>", "1", "2", "<assistant>"]
    assert tokens(said) == [*turn, "9", "<eos>", *turn]


def test_other_roles_are_refused(tokenizer):
    import jinja2

    with pytest.raises(jinja2.exceptions.TemplateError, match="the roles are"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "1"}], tokenize=False)


@given(st.text(SMALL.characters, max_size=12))
def test_text_comes_back_as_it_was_a_token_a_character(text):
    tokenizer = _tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    check_text(tokenizer, [text])


_KEPT = {}


def _tokenizer():
    if not _KEPT:
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as made:
            folder = make_tiny(SMALL, Path(made) / "tiny")
            _KEPT["tokenizer"] = AutoTokenizer.from_pretrained(folder)
    return _KEPT["tokenizer"]


def test_embeddings_are_tied_and_ends_are_known(folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.max_position_embeddings == SMALL.context
    assert tokenizer.chat_template == TINY_TEMPLATE
    special = ["<pad>", "<eos>", "<unk>", "<system>", "<user>", "<assistant>"]
    assert set(tokenizer.all_special_tokens) == set(special)
    assert len(tokenizer) == len(special) + len(SMALL.characters)


def test_the_evaluators_engine_draws_from_it(folder):
    engine = HFBackend(resolve_checkpoint(str(folder)), device="cpu")
    prompt = engine.render(ASKED)
    assert prompt == "<system>!<user>12<assistant>"
    request = Request(
        mode="high",
        task="sums",
        doc_id=0,
        sample_idx=0,
        doc_hash="d",
        prompt_hash="p",
        prompt_ids=engine.encode(prompt),
        sampling=Sampling(max_tokens=5),
        seed=3,
        prompt=prompt,
    )
    (found,) = engine.complete([request], lambda tokens, samples: None)
    assert 1 <= len(found.ids) <= 5


def test_trl_trains_it(folder, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    seen = []

    def reward(completion_ids, **_):
        seen.extend(completion_ids)
        return [float(len(ids)) for ids in completion_ids]

    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        bf16=False,
        activation_checkpointing=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = Dataset.from_list([{"prompt": ASKED}])
    trainer = GRPOTrainer(str(folder), reward, args=arguments, train_dataset=rows)
    assert trainer.eos_token_ids == [AutoTokenizer.from_pretrained(folder).eos_token_id]
    trainer.train()
    assert len(seen) == 4
    assert all(1 <= len(ids) <= 6 for ids in seen)


def test_characters_without_a_token_are_named(tokenizer):
    check_text(tokenizer, [])
    check_text(tokenizer, ["1+2", "! \n"])
    with pytest.raises(DataError, match=r"question 'x=1': .* no token for 'x' '='; put it into"):
        check_text(tokenizer, ["1", "x=1", "y"], "question")
    with pytest.raises(DataError, match=r"'1{59}…'.*'é'"):
        check_text(tokenizer, ["1" * 80 + "é"])


def test_a_tokenizer_of_bytes_takes_any_text(tiny):
    check_text(AutoTokenizer.from_pretrained(tiny), ["é 漢 \U0001f600"])


def test_a_folder_of_the_same_settings_is_kept_and_another_is_not_touched(folder, tmp_path):
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert make_tiny(SMALL, folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunMismatchError, match="give another folder"):
        make_tiny(SMALL.model_copy(update={"width": 32}), folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    with pytest.raises(RunMismatchError):
        make_tiny(SMALL, mine)
    assert (mine / "thesis.txt").read_text() == "all of it"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "tiny").mkdir()
    folder = make_tiny(SMALL, tmp_path / "tiny")
    assert json.loads((folder / "psplit_tiny.json").read_text())["settings"]["width"] == 16
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_shapes_that_do_not_go_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"width 30: expected a multiple of 8.*give 32"):
        make_tiny(TinySettings(width=30, heads=4), tmp_path / "tiny")
    with pytest.raises(UsageError, match="characters"):
        make_tiny(TinySettings(characters=""), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
