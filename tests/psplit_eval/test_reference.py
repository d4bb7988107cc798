"""The reference language model, on real text."""

import math
import random

import pytest

from psplit_eval.errors import MissingExtraError, UnknownNameError
from psplit_eval.reference import REFERENCE, ReferenceModel

TEXT = " The old lighthouse keeper lit the lamp every evening, although no ship had passed in years."


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
    ((found,),) = reference.surprisals([("", TEXT)])
    assert found.tokens == ids.shape[1] - 1
    assert found.bits / found.tokens == pytest.approx(nats / math.log(2), rel=1e-4)


def test_salad_surprises_and_repetition_does_not(reference):
    words = TEXT.split()
    random.Random(1).shuffle(words)
    plain, salad, again = reference.surprisals(
        [("", TEXT), ("", " " + " ".join(words)), (TEXT, TEXT)]
    )
    per_token = [found[0].bits / found[0].tokens for found in (plain, salad, again)]
    assert per_token[1] > 1.4 * per_token[0]
    assert per_token[2] < 0.4 * per_token[0]


def test_pieces_add_up_whatever_the_cuts_and_the_company(reference):
    head, middle, tail = (TEXT[:26], TEXT[26:54], TEXT[54:])  # at blanks, so tokens stay whole
    chains = [("", head, middle, tail), (head, middle, tail), (head + middle, tail), ("", "x")]
    whole, two, one, _ = reference.surprisals(chains)
    assert flat(two) == pytest.approx(flat(whole[1:]), rel=1e-4)
    assert one[0].bits == pytest.approx(whole[2].bits, rel=1e-4)
    alone = [reference.surprisals([chain])[0] for chain in chains]
    assert flat(alone[0]) == pytest.approx(flat(whole), rel=1e-4)


def flat(pieces):
    return [number for piece in pieces for number in piece]


def test_of_long_text_the_beginning_is_read(reference):
    ((found,),) = reference.surprisals([("", TEXT * 60)])
    assert found.tokens == 512
    chain = reference.surprisals([("", *[TEXT * 60] * 20)])[0]
    assert [piece.tokens for piece in chain[:15]] == [512] * 15
    assert chain[-1] == (0.0, 0)


def test_empty_pieces_have_no_tokens(reference):
    assert reference.surprisals([("", ""), ("a",)]) == [((0.0, 0),), ()]
    assert reference.surprisals([]) == []


def test_names(tiny):
    assert ReferenceModel().name == REFERENCE == "smollm2-135m"
    assert ReferenceModel(str(tiny)).name.startswith(f"{tiny.name}@")
    with pytest.raises(UnknownNameError, match="smollm2-135m"):
        ReferenceModel("smollm3")


def test_a_model_with_a_short_context(tiny):
    found = ReferenceModel(str(tiny)).surprisals([("", *["ab cd " * 100] * 9)])[0]
    assert sum(piece.tokens for piece in found) <= 1023
    assert all(math.isfinite(piece.bits) for piece in found)


def test_without_the_extra_the_fix_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[hf\]'"):
        ReferenceModel().load()
