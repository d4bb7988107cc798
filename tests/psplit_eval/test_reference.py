"""The reference language model, on real text."""

import json
import math
import random
import shutil

import pytest

from psplit_eval.errors import MissingExtraError, UnknownNameError
from psplit_eval.reference import REFERENCE, ReferenceModel
from psplit_eval.scoring import Chain

TEXT = (
    " The old lighthouse keeper lit the lamp every evening, although no ship had passed in years."
)


@pytest.fixture(scope="module")
def reference(smollm2):
    return ReferenceModel()


def test_bits_are_those_of_the_model(reference, smollm2):
    """Computed here again, by transformers' loss on the whole text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    model = AutoModelForCausalLM.from_pretrained(smollm2.folder, dtype=torch.float32)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(TEXT)["input_ids"]]])
    with torch.inference_mode():
        nats = model(input_ids=ids, labels=ids).loss.item()
    ((found,),) = reference.surprisals([Chain("", (TEXT,))])
    assert len(found) == ids.shape[1] - 1
    assert found.mean() == pytest.approx(nats / math.log(2), rel=1e-4)


def test_salad_surprises_and_repetition_does_not(reference):
    words = TEXT.split()
    random.Random(1).shuffle(words)
    plain, salad, again = reference.surprisals(
        [Chain("", (TEXT,)), Chain("", (" " + " ".join(words),)), Chain(TEXT, (TEXT,))]
    )
    per_token = [found[0].mean() for found in (plain, salad, again)]
    assert per_token[1] > 1.4 * per_token[0]
    assert per_token[2] < 0.4 * per_token[0]


def test_pieces_add_up_whatever_the_cuts_and_the_company(reference):
    head, middle, tail = (TEXT[:26], TEXT[26:54], TEXT[54:])  # at blanks, so tokens stay whole
    chains = [
        Chain("", (head, middle, tail)),
        Chain(head, (middle, tail)),
        Chain(head + middle, (tail,)),
        Chain("", ("x",)),
    ]
    whole, two, one, _ = reference.surprisals(chains)
    assert flat(two) == pytest.approx(flat(whole[1:]), rel=1e-3, abs=1e-3)
    assert one[0] == pytest.approx(whole[2], rel=1e-3, abs=1e-3)
    alone = [reference.surprisals([chain])[0] for chain in chains]
    assert flat(alone[0]) == pytest.approx(flat(whole), rel=1e-3, abs=1e-3)


def flat(pieces):
    return [number for piece in pieces for number in piece]


def test_a_message_stands_in_the_chat_template(reference, smollm2):
    """Computed here again, by transformers' chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    question, answer = "What is the capital of France?", "The capital of France is Paris."
    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder)
    model = AutoModelForCausalLM.from_pretrained(smollm2.folder, dtype=torch.float32)
    message = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt + tokenizer(answer)["input_ids"]])
    labels = ids.clone()
    labels[0, : len(prompt)] = -100
    with torch.inference_mode():
        nats = model(input_ids=ids, labels=labels).loss.item()
    ((found,),) = reference.surprisals([Chain(question, (answer,), chat=True)])
    assert found.mean() == pytest.approx(nats / math.log(2), rel=1e-3)


def with_context(tiny, folder, tokens):
    """That model with another length of context."""
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": tokens}))
    return ReferenceModel(str(folder))


def test_of_long_text_the_beginning_is_read(reference, tiny, tmp_path):
    ((found,),) = reference.surprisals([Chain("", (TEXT * 60,))])
    assert len(found) == 512
    long = with_context(tiny, tmp_path / "long", 2**13)
    chain = long.surprisals([Chain("", (TEXT * 60,) * 20)])[0]
    assert [len(piece) for piece in chain[:15]] == [512] * 15
    assert not len(chain[-1])


def test_empty_pieces_have_no_tokens(reference):
    empty, alone = reference.surprisals([Chain("", ("",)), Chain("a", ())])
    assert [len(piece) for piece in empty] == [0]
    assert alone == []
    assert reference.surprisals([]) == []


def test_names(tiny):
    assert ReferenceModel().name == REFERENCE == "smollm2-135m"
    assert ReferenceModel(str(tiny)).name.startswith(f"{tiny.name}@")
    with pytest.raises(UnknownNameError, match="smollm2-135m"):
        ReferenceModel("smollm3")


def test_a_model_with_a_short_context(tiny):
    found = ReferenceModel(str(tiny)).surprisals([Chain("", ("ab cd " * 100,) * 9)])[0]
    assert sum(map(len, found)) <= 1023
    assert all(math.isfinite(number) for number in flat(found))


@pytest.mark.parametrize("chat", [True, False])
def test_a_long_prompt_leaves_room_for_its_answer(tiny, tmp_path, chat):
    chain = Chain("How many? " * 100, (TEXT * 9, TEXT), chat=chat)
    first, second = with_context(tiny, tmp_path / "short", 64).surprisals([chain])[0]
    assert (len(first), len(second)) == (32, 0)


def test_without_the_extra_the_fix_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[hf\]'"):
        ReferenceModel().load()
