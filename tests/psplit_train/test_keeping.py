"""What a model says by itself, to be mixed into a warm-up: drawn as evaluation would draw it."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from psplit_eval.errors import DataError
from psplit_eval.modes import Mode
from psplit_eval.templates import ChatTemplate
from psplit_train.config import TinySettings
from psplit_train.keeping import check_requests, own_answers, read_requests
from psplit_train.system_role import messages_of
from psplit_train.tiny import make_tiny

NORMAL, HIGH = MODES = (Mode("normal", None, "normal"), Mode("high", "!", "high"))


def hush(text):
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = TinySettings(layers=1, width=16, heads=2, context=16, characters="01+!")
    return make_tiny(settings, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def template(model):
    return ChatTemplate(AutoTokenizer.from_pretrained(model), "model")


def test_answers_stand_under_their_modes_prompts_in_order(model, template):
    asked = [(HIGH, "0"), (NORMAL, "1+1"), (NORMAL, "0"), (HIGH, "1+1")]
    rows = own_answers(model, asked, hush, max_tokens=4)
    rendered = [template.render(messages_of(mode, text)) for mode, text in asked]
    assert [tuple(row.prompt) for row in rows] == [template.encode(text) for text in rendered]


def test_what_is_too_long_is_cut_and_has_no_end(model):
    end = AutoTokenizer.from_pretrained(model).eos_token_id
    rows = own_answers(model, [(NORMAL, "0")] * 64, hush, max_tokens=3)
    ended = [row.response[-1] == end for row in rows]
    assert {len(row.response) for row in rows} <= {1, 2, 3}
    assert any(ended)
    assert not all(ended)
    assert all(done or len(row.response) == 3 for done, row in zip(ended, rows, strict=True))
    assert not any(end in row.response[:-1] for row in rows)


def test_it_is_drawn_from_the_whole_distribution(model):
    """First tokens of 2 000 answers against the model's own probabilities (chi square)."""
    from scipy.stats import chisquare

    count = 2000
    rows = own_answers(model, [(HIGH, "1")] * count, hush, max_tokens=1)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model)(
            torch.tensor([list(rows[0].prompt)])
        ).logits[0, -1]
    wanted = count * logits.double().softmax(-1).numpy()
    drawn = torch.tensor([row.response[0] for row in rows])
    found = torch.bincount(drawn, minlength=len(wanted)).numpy()
    assert chisquare(found, wanted).pvalue > 1e-3
    assert math.isclose(wanted.sum(), count, rel_tol=1e-9)


def test_draws_are_repeatable_and_of_the_seed(model):
    asked = [(NORMAL, "0"), (HIGH, "0")] * 8
    first, again, other = (
        own_answers(model, asked, hush, max_tokens=6, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len({tuple(row.response) for row in first[::2]}) > 1  # the same request, asked again


def test_requests_are_lines_each_once(tmp_path):
    path = tmp_path / "requests.txt"
    path.write_text("Write a poem.\n\n  Explain rain. \nWrite a poem.\n", encoding="utf-8")
    assert read_requests(path) == ["Write a poem.", "Explain rain."]


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_what_holds_no_requests_is_refused(tmp_path, content):
    path = tmp_path / "requests.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"warmup\.keep\.requests .*requests\.txt") as refused:
        read_requests(path)
    assert "\n" not in str(refused.value)


def test_requests_that_cannot_be_asked_are_refused(template):
    """<user> 1+1+1 <assistant> and so on: the mark of a turn is a token each."""
    check_requests(["1+1"], MODES, template, 16)
    with pytest.raises(DataError, match="request '2': the tokenizer has no token for '2'"):
        check_requests(["1", "2"], MODES, template, 16)
    with pytest.raises(DataError, match=r"'1{12}' in mode 'high' has \d+ tokens, expected less"):
        check_requests(["1" * 12], MODES, template, 16)
    check_requests(["1" * 100], MODES, template, None)
