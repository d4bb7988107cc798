"""Text for one line."""

import pytest

from psplit_eval.text import shortened, shortened_inside


@pytest.mark.parametrize("width", [2, 3, 8, 9])
def test_long_texts_lose_their_middle(width):
    text = "checkpoint, high"
    found = shortened_inside(text, width)
    assert len(found) == width
    start, end = found.split("…")
    assert text.startswith(start)
    assert text.endswith(end)
    assert len(start) <= len(end)


def test_short_texts_stay():
    assert shortened_inside("a\nb", 3) == shortened("a\nb", 3) == "a b"
    assert shortened("abcdef", 4) == "abc…"
