"""Cases for cross-scoring by the tiny model, and what they are exactly."""

from typing import Any

import numpy as np

from psplit_eval.backends import Case, Crossed
from psplit_eval.crossing import cross_whole

SYSTEM = {"plain": None, "bold": "Be bold in all that you say.", "odd": "What? 3 + 4 days."}
PAIRS = [("plain", "bold"), ("odd", "plain")]
TEXTS = {
    "What is 3 + 4?": ["a number", "7 books", "a number", ""],
    "Name a colour.": ["How does it have?", "An", "Anna does not know"],
    "Hi": ["many many books in one line"],
    "Say nothing.": [""],
}


def cases(backend: Any) -> list[Case]:
    """Prompts and responses in `backend`'s own form; ids by an engine that has a tokenizer."""
    return [_case(backend, question, texts) for question, texts in TEXTS.items()]


def _case(backend: Any, question: str, texts: list[str]) -> Case:
    user = {"role": "user", "content": question}
    prompts = {
        name: backend.render([*([{"role": "system", "content": text}] if text else []), user])
        for name, text in SYSTEM.items()
    }
    ids = {name: backend.encode(prompt) for name, prompt in prompts.items()}
    return Case([backend.encode(text) for text in texts], ids, PAIRS, texts, prompts)


def exactly(model: Any, asked: list[Case]) -> dict[int, Crossed]:
    return dict(cross_whole(model, asked))


def check_bounds(found: Crossed, exact: Crossed, margin: float = 1e-4) -> None:
    """No estimate is above the exact number, and surprisals are equal."""
    assert (found.policies, found.pairs) == (exact.policies, exact.pairs)
    assert len(found.rows) == len(exact.rows)
    first = len(found.policies)
    for rows, wanted in zip(found.rows, exact.rows, strict=True):
        assert rows.shape == wanted.shape
        assert rows.dtype == np.float64
        surprisals = slice(first, 2 * first)
        np.testing.assert_allclose(rows[surprisals], wanted[surprisals], rtol=1e-4, atol=1e-4)
        assert (rows >= 0).all()
        assert (rows <= wanted + margin).all()


def check_equal(found: Crossed, exact: Crossed) -> None:
    for rows, wanted in zip(found.rows, exact.rows, strict=True):
        np.testing.assert_allclose(rows, wanted, rtol=1e-3, atol=1e-4)
