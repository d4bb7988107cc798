"""A supervised stage: what is trained is, token by token, what would be generated."""

import json
import math
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import (
    CheckpointError,
    DataError,
    RunMismatchError,
    TemplateError,
)
from psplit_eval.hf import HFBackend
from psplit_eval.modes import Mode, checkpoint_modes
from psplit_eval.templates import ChatTemplate
from psplit_eval.thinking import Thinking
from psplit_train.config import KeepSettings, TinySettings, WarmupSettings
from psplit_train.keeping import own_answers
from psplit_train.system_role import messages_of, with_system_role
from psplit_train.tiny import make_tiny
from psplit_train.turns import Turns
from psplit_train.warmup import warm_up

NORMAL, HIGH = MODES = (Mode("normal", None, "normal"), Mode("high", "!", "high"))
COPYING = WarmupSettings(steps=150, batch=16, learning_rate=5e-3)
SHORT = WarmupSettings(steps=3, batch=4, learning_rate=3e-3)
PAIRS = [("12", "3+9"), ("7", "3+4"), ("15", "9+6")]
END = "<|im_end|>"


def shipped(name):
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def hush(text):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    settings = TinySettings(layers=2, width=32, heads=2, characters="0123456789+!")
    return make_tiny(settings, tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def copies(base, tmp_path_factory):
    """Taught to say `12` as `1+2` in both modes, in seconds."""
    out = tmp_path_factory.mktemp("taught") / "start"
    settings = COPYING
    said = []

    def draw(numbers):
        digits = numbers.sample("123456789", 2)
        return "".join(digits), "+".join(digits)

    return warm_up(base, settings, draw, MODES, out, said.append), said


def turns_of(folder, template=None, thinking=None):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = ChatTemplate(tokenizer, "model", template, thinking)
    return Turns(chat, [tokenizer.eos_token_id])


def shown(turns, row):
    return tuple(turns.template.tokenizer.decode(ids) for ids in (row.prompt, row.response))


def test_rows_are_token_by_token_what_is_generated(copies):
    """The trained model says an example's response: prompt, answer and end are the row's ids."""
    folder, _ = copies
    engine = HFBackend(resolve_checkpoint(str(folder)), device="cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), engine.model
    examples = [(mode, (a + b, f"{a}+{b}")) for mode in MODES for a, b in ("12", "49", "85")]
    for (mode, (question, _)), row in zip(examples, turns_of(folder).rows(examples), strict=True):
        messages = messages_of(mode, question)
        assert tuple(row.prompt) == engine.encode(engine.render(messages))
        asked = tokenizer.apply_chat_template(  # as TRL and transformers ask
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert asked["input_ids"][0].tolist() == list(row.prompt)
        found = model.generate(**asked, max_new_tokens=8, do_sample=False)[0].tolist()
        assert found == [*row.prompt, *row.response]
        assert found[-1] == tokenizer.eos_token_id


def test_the_loss_is_that_of_responses_alone(base, tmp_path):
    """The first loss, by hand: one forward pass of the untrained model over the rows."""
    import torch

    settings = WarmupSettings(steps=1, batch=3, learning_rate=1e-3)
    out = warm_up(base, settings, PAIRS, (HIGH,), tmp_path / "out", hush)
    (line,) = map(json.loads, (out / "warmup_log.jsonl").read_text().splitlines())
    model = AutoModelForCausalLM.from_pretrained(base)
    losses, entropies = [], []
    for row in turns_of(base).rows([(HIGH, pair) for pair in PAIRS]):
        ids = torch.tensor([[*row.prompt, *row.response]])
        with torch.no_grad():
            logs = model(ids).logits[0].log_softmax(-1)
        for place, token in enumerate(row.response, len(row.prompt)):
            losses.append(-logs[place - 1, token].item())
            entropies.append(-(logs[place - 1].exp() * logs[place - 1]).sum().item() / math.log(2))
    assert line["step"] == 1
    assert line["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert line["entropy_bits"] == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)


def test_both_modes_learn_and_it_is_logged(copies):
    folder, said = copies
    log = [json.loads(line) for line in (folder / "warmup_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 151))
    assert log[0]["loss"] > 2 > 0.5 > log[-1]["loss"]
    assert log[-1]["token_accuracy"] > 0.8
    assert max(line["learning_rate"] for line in log) == pytest.approx(5e-3)
    assert log[-1]["learning_rate"] < 1e-4
    assert said[0] == "warm-up: 150 steps of 16 examples, modes normal, high"
    assert sum(line.startswith("warm-up: step ") for line in said) == 10
    assert "nats a token at the end" in said[-1]
    record = json.loads((folder / "psplit_warmup.json").read_text())
    assert record["added_system_prompt"] is None
    assert [mode["name"] for mode in record["modes"]] == ["normal", "high"]


def test_the_start_declares_its_modes(copies):
    """So that evaluation asks it as it was taught, and not under the built-in prompt of `high`."""
    folder, _ = copies
    assert checkpoint_modes(folder) == {"normal": NORMAL, "high": HIGH}


def test_every_mode_is_drawn(base, tmp_path):
    """Counted through the examples of a callable: what is drawn by it comes before the modes."""
    seen = []

    def draw(numbers):
        seen.append(numbers.random())
        return "12", "3+9"

    warm_up(base, SHORT, draw, MODES, tmp_path / "one", hush)
    assert len(seen) == SHORT.steps * SHORT.batch
    first = list(seen)
    seen.clear()
    warm_up(base, SHORT, draw, MODES, tmp_path / "two", hush)
    assert seen == first
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    other = SHORT.model_copy(update={"seed": 1})
    warm_up(base, other, draw, MODES, tmp_path / "three", hush)
    assert seen[len(first) :] != first
    assert (tmp_path / "three" / "model.safetensors").read_bytes() != weights[0]


def test_a_finished_one_is_not_done_again(copies, base):
    folder, _ = copies
    settings = COPYING
    before = (folder / "model.safetensors").stat().st_mtime_ns
    said = []

    def never(numbers):
        raise AssertionError("drew an example")

    assert warm_up(base, settings, never, MODES, folder, said.append) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert said == [f"warm-up: done before, in {folder}"]
    with pytest.raises(RunMismatchError, match="the same settings; give another folder"):
        warm_up(base, SHORT, never, MODES, folder, hush)
    with pytest.raises(RunMismatchError, match="the same modes"):
        warm_up(base, settings, never, MODES[:1], folder, hush)


def test_a_folder_with_something_else_in_it_is_not_touched(base, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunMismatchError):
        warm_up(base, SHORT, PAIRS, MODES, tmp_path, hush)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_breaks_on_the_way_leaves_nothing(base, tmp_path):
    def stop(text):
        if "step 2/" in text:
            raise KeyboardInterrupt

    settings = SHORT.model_copy(update={"steps": 4})
    with pytest.raises(KeyboardInterrupt):
        warm_up(base, settings, PAIRS, MODES, tmp_path / "out", stop)
    assert list(tmp_path.iterdir()) == []
    out = warm_up(base, settings, PAIRS, MODES, tmp_path / "out", hush)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list(out.glob("training_args*"))


def test_no_steps_are_no_warm_up(base, tmp_path):
    assert warm_up(base, WarmupSettings(), [], MODES, tmp_path / "out", hush) == base
    assert not (tmp_path / "out").exists()


DIGITS = [a + b for a in "123456789" for b in "123456789" if a != b]


def share_of_copies(folder):
    """Of digits that no request shows: how often the model still copies them, as it was taught."""
    asked = [(NORMAL, digits) for digits in DIGITS[::4]] * 5
    rows = own_answers(folder, asked, hush, max_tokens=8)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [tokenizer.decode(row.response, skip_special_tokens=True) for row in rows]
    right = [text == "+".join(digits) for text, (_, digits) in zip(said, asked, strict=True)]
    return sum(right) / len(right)


def test_what_it_could_do_before_is_kept_by_its_own_answers(copies, tmp_path):
    """A model that copies two digits learns to say 0 to three: without `keep` to two as well."""
    folder, _ = copies
    requests = tmp_path / "requests.txt"
    requests.write_text("\n".join(digits for digits in DIGITS if digits not in DIGITS[::4]))
    settings = WarmupSettings(steps=100, batch=16, learning_rate=2e-3)
    keep = KeepSettings(requests=requests, share=0.5, max_tokens=8)
    keeping = settings.model_copy(update={"keep": keep})
    said = []

    def draw(numbers):
        return "".join(numbers.choices("123456789", k=3)), "0"

    without = warm_up(folder, settings, draw, MODES, tmp_path / "without", hush)
    kept = warm_up(folder, keeping, draw, MODES, tmp_path / "kept", said.append)
    assert "warm-up: drawing 800 of its own answers to keep" in said
    before = share_of_copies(folder)
    assert share_of_copies(without) < 0.1 * before
    assert share_of_copies(kept) > 0.5 * before
    learnt = own_answers(kept, [(HIGH, "135"), (NORMAL, "246")] * 10, hush, max_tokens=8)
    zero = AutoTokenizer.from_pretrained(kept).encode("0", add_special_tokens=False)
    assert sum(list(row.response[:-1]) == zero for row in learnt) >= 15


def test_the_task_has_an_example_at_least(base, tmp_path):
    (tmp_path / "requests.txt").write_text("1+1")
    keep = KeepSettings(requests=tmp_path / "requests.txt", share=0.9)
    settings = WarmupSettings(steps=1, batch=4, keep=keep)
    said = []
    warm_up(base, settings, PAIRS, MODES, tmp_path / "out", said.append)
    assert "warm-up: drawing 3 of its own answers to keep" in said


def test_requests_are_part_of_what_was_asked_for_wherever_their_file_is(base, tmp_path):
    def settings(name, text):
        (tmp_path / name).write_text(text)
        return SHORT.model_copy(update={"keep": KeepSettings(requests=tmp_path / name)})

    out = warm_up(base, settings("a", "1+1\n2"), PAIRS, MODES, tmp_path / "out", hush)
    said = []
    warm_up(base, settings("b", "1+1\n2"), PAIRS, MODES, out, said.append)
    assert "done before" in said[-1]
    with pytest.raises(RunMismatchError, match="same requests;"):
        warm_up(base, settings("b", "1+1\n3"), PAIRS, MODES, out, hush)
    with pytest.raises(RunMismatchError, match="same settings;"):
        warm_up(base, SHORT, PAIRS, MODES, out, hush)


def test_smaller_pieces_give_the_same_weights(base, tmp_path):
    """The loss is a mean over all tokens of a batch, so pieces of it only round differently."""
    import torch

    def trained(name, micro_batch):
        out = tmp_path / name
        warm_up(base, SHORT, PAIRS, MODES, out, hush, micro_batch=micro_batch)
        return AutoModelForCausalLM.from_pretrained(out).state_dict()

    whole, pieces = trained("whole", None), trained("pieces", 3)  # 2 rows: 4 is a multiple
    assert all(torch.allclose(whole[name], pieces[name], atol=1e-4) for name in whole)
    start = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert not all(torch.allclose(whole[name], start[name], atol=1e-3) for name in whole)


def test_a_list_is_gone_through_whole_before_it_is_gone_through_again(base, tmp_path, monkeypatch):
    seen = []
    rows = Turns.rows
    monkeypatch.setattr(Turns, "rows", lambda self, drawn: seen.extend(drawn) or rows(self, drawn))
    settings = WarmupSettings(steps=10, batch=30)
    warm_up(base, settings, PAIRS, MODES, tmp_path / "out", hush)
    assert len(seen) == 300
    assert all(sorted(p for _, p in seen[i : i + 3]) == sorted(PAIRS) for i in range(0, 300, 3))
    assert len({tuple(p for _, p in seen[i : i + 3]) for i in range(0, 300, 3)}) == 6
    share = sum(mode is HIGH for mode, _ in seen) / 300
    assert 0.4 < share < 0.6  # 3.5 standard errors


def test_what_cannot_be_trained_is_said(base, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="response '3 9': the tokenizer has no token for ' '"):
        warm_up(base, SHORT, [("12", "3 9")], MODES, out, hush)
    with pytest.raises(DataError, match=r"system prompt 'Be': .* for 'B' 'e';"):
        warm_up(base, SHORT, PAIRS, (NORMAL, Mode("high", "Be")), out, hush)
    with pytest.raises(DataError, match=r"an example of 84 tokens.*at most 64"):
        warm_up(base, SHORT, [("1" * 78, "3+9")], (NORMAL,), out, hush)
    with pytest.raises(DataError, match="no examples"):
        warm_up(base, SHORT, [], MODES, out, hush)
    with pytest.raises(CheckpointError, match="transformers cannot open it"):
        warm_up(tmp_path, SHORT, PAIRS, MODES, out, hush)
    dropping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match="drops its system prompt"):
        warm_up(base, SHORT, PAIRS, MODES, out, hush, chat_template=dropping)
    assert not out.exists()


TWO_PROCESSES = """
import os, sys
from pathlib import Path
from psplit_eval.errors import UsageError
from psplit_train.config import KeepSettings, WarmupSettings
from psplit_train.warmup import warm_up
from test_warmup import MODES, PAIRS, SHORT, hush

assert os.environ["WORLD_SIZE"] == "2"
base, out = map(Path, sys.argv[1:])
said = []
assert warm_up(base, SHORT, PAIRS, MODES, out, said.append) == out
assert (out / "model.safetensors").is_file()  # for every process, when it comes back
warm_up(base, SHORT, PAIRS, MODES, out, said.append)
assert "done before" in said[-1]
(out.parent / "requests.txt").write_text("1+1")
keep = KeepSettings(requests=out.parent / "requests.txt")
warm_up(base, SHORT.model_copy(update={"keep": keep}), PAIRS, MODES, out.parent / "kept", hush)
assert (out.parent / "kept" / "model.safetensors").is_file()
try:
    warm_up(base, WarmupSettings(steps=3, batch=5), PAIRS, MODES, out.parent / "odd", said.append)
except UsageError as error:
    assert "warmup.batch 5: expected a multiple of the 2 processes" in str(error)
else:
    raise AssertionError("no error")
"""


@pytest.mark.slow
def test_two_processes_share_a_batch(base, tmp_path):
    """The same weights as one process has, up to rounding: each takes half of every batch."""
    import torch

    script, out = tmp_path / "train.py", tmp_path / "out"
    script.write_text(TWO_PROCESSES)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *sys.path])
    done = subprocess.run(
        [*run, str(script), str(base), str(out)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    alone = warm_up(base, SHORT, PAIRS, MODES, tmp_path / "alone", hush)
    found, wanted = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (out, alone)
    )
    assert all(torch.allclose(found[name], wanted[name], atol=1e-4) for name in wanted)


# Templates of others. Rows are read back as text: what a model of that template would be shown.


def test_a_turn_ends_with_the_token_at_which_generation_stops(tiny):
    turns = turns_of(tiny)
    (row,) = turns.rows([(Mode("high", "Be bold."), ("Hi", "Yes"))])
    prompt = "<|im_start|>system\nBe bold.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert shown(turns, row) == (prompt + "<|im_start|>assistant\n", "Yes" + END)
    assert row.response[-1] == turns.template.tokenizer.eos_token_id


def test_no_system_prompt_is_what_the_template_makes_of_none(tiny, tmp_path):
    template = shipped("qwen2_5")
    turns = turns_of(tiny, template)
    (row,) = turns.rows([(NORMAL, ("Hi", "Yes"))])
    added = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert shown(turns, row)[0].startswith(f"<|im_start|>system\n{added}<|im_end|>\n")
    out = warm_up(tiny, SHORT, PAIRS, MODES, tmp_path / "out", hush, chat_template=template)
    assert json.loads((out / "psplit_warmup.json").read_text())["added_system_prompt"] == added
    assert AutoTokenizer.from_pretrained(out).chat_template == template


EMPTY = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("name", "enabled", "opening", "before"),
    [
        ("qwen3", None, "", EMPTY),
        ("qwen3", False, EMPTY, ""),
        ("qwen3_instruct_2507", None, "", ""),
        ("qwen3_5_think", None, "<think>\n", "\n</think>\n\n"),
        ("nemotron_3_nano", None, "<think>\n", "\n</think>\n\n"),
    ],
)
def test_an_answer_is_not_taken_for_a_thought(tiny, name, enabled, opening, before):
    turns = turns_of(tiny, shipped(name), Thinking(enabled))
    plain, thought = turns.rows([(HIGH, ("Hi", "7")), (HIGH, ("Hi", "<think>\n3\n</think>\n7"))])
    prompt, response = shown(turns, plain)
    assert prompt.endswith(f"<|im_start|>assistant\n{opening}")
    assert response == before + "7" + END
    read = turns.template.reply(prompt, plain.response, "stop", ())
    assert (read.text, read.thought) == ("7", None)
    own = shown(turns, thought)[1]
    assert own == ("3\n</think>\n7" if opening == "<think>\n" else "<think>\n3\n</think>\n7") + END


def test_a_taught_system_role_is_learnt(tiny, tmp_path):
    """Gemma's template has none: it is given one, and the warm-up trains it like any other."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = shipped("gemma")
    made = with_system_role(tokenizer)
    modes = (Mode("normal", None), Mode("high", "Be bold."))
    with pytest.raises(TemplateError, match="rejects system messages"):
        warm_up(*(tiny, SHORT, PAIRS, modes, tmp_path / "no", hush), chat_template=shipped("gemma"))
    settings = WarmupSettings(steps=40, batch=8, learning_rate=3e-3)
    out = warm_up(tiny, settings, PAIRS, modes, tmp_path / "out", hush, chat_template=made)
    assert AutoTokenizer.from_pretrained(out).chat_template == made
    turns = turns_of(out)
    rows = turns.rows([(modes[1], pair) for pair in PAIRS])
    assert "<start_of_turn>system\nBe bold.<end_of_turn>\n" in shown(turns, rows[0])[0]

    def loss(folder):
        model, total = AutoModelForCausalLM.from_pretrained(folder), 0.0
        for row in rows:
            labels = torch.tensor([[*[-100] * len(row.prompt), *row.response]])
            ids = torch.tensor([[*row.prompt, *row.response]])
            total += model(ids, labels=labels).loss.item()
        return total

    assert loss(out) < loss(tiny) / 2
