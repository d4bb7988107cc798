"""Word vectors from a file: what is read of it, and that it stands in for an encoder."""

import gzip
import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from psplit_eval.association import divergent_association
from psplit_eval.errors import DataError
from psplit_eval.wordvectors import WordVectors, read_vectors

SIZE = 8


@pytest.fixture(scope="module")
def made_up():
    """300 words with vectors."""
    rng = np.random.default_rng(11)
    return {f"w{chr(97 + i % 26)}{i}": rng.normal(size=SIZE).round(4) for i in range(300)}


@pytest.fixture(scope="module")
def glove(made_up, tmp_path_factory):
    return write(tmp_path_factory.mktemp("vectors") / "glove.txt", made_up)


def write(path, vectors, header=""):
    rows = (f"{word} {' '.join(map(str, row))}\n" for word, row in vectors.items())
    path.write_text(header + "".join(rows), encoding="utf-8")
    return path


def test_asked_words_are_read_and_no_others(glove, made_up):
    words = ["wa0", "wn299", "wc28", "none"]
    found = read_vectors(glove, set(words))
    assert set(found) == set(words[:3])
    for word, row in found.items():
        assert row == pytest.approx(made_up[word], rel=1e-6)


def test_association_from_a_file_is_scipys(glove, made_up):
    words = list(made_up)[40:50]
    vectors = read_vectors(glove, set(words))
    expected = 100 * pdist(np.stack([made_up[word] for word in words[:7]]), "cosine").mean()
    assert divergent_association(words, vectors) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(divergent_association(["none", *words[:6]], vectors))


def test_word2vecs_header_and_gzip_make_no_difference(glove, made_up, tmp_path):
    words = set(list(made_up)[:9])
    headed = write(tmp_path / "w2v.txt", made_up, f"300 {SIZE}\n")
    packed = tmp_path / "glove.txt.gz"
    packed.write_bytes(gzip.compress(glove.read_bytes()))
    expected = read_vectors(glove, words)
    for path in (headed, packed):
        found = read_vectors(path, words)
        assert {w: row.tolist() for w, row in found.items()} == {
            w: row.tolist() for w, row in expected.items()
        }


def test_words_with_spaces_are_passed_over_and_the_first_of_two_rows_counts(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("and 1 0\nat a@b.c 5 5\nat 2 0\nat 3 0\n. . . 4 4\nnew\u2028line 1 1\n")
    found = read_vectors(path, {"at", ".", "new\u2028line"})
    assert {word: row.tolist() for word, row in found.items()} == {
        "at": [2, 0],
        "new\u2028line": [1, 1],
    }


def test_it_encodes_as_a_sentence_encoder_does(glove, made_up):
    rows = WordVectors(glove).encode(["wb1", "none", "wa0", "wb1"])
    assert rows.shape == (4, SIZE)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 1, 1])
    assert rows[0] == pytest.approx(made_up["wb1"] / np.linalg.norm(made_up["wb1"]), rel=1e-5)
    assert WordVectors(glove).encode([]).shape == (0, SIZE)


def test_its_name_says_which_file(glove, made_up, tmp_path):
    same = write(tmp_path / "glove.txt", made_up)
    assert WordVectors(same).name == WordVectors(glove).name
    write(same, {**made_up, "wa0": made_up["wa0"] + 1})
    assert WordVectors(same).name != WordVectors(glove).name
    assert WordVectors(same).name.startswith("glove.txt@")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 2),
        (b"just a sentence of words\n", 1),
        (b"and 1 0\nriver 1 x\n", 2),
        (b"and 1 0\nriver 1 nan\n", 2),
        (b"3000000 300\nriver \x80\x81\x00\xff\xfe\n", 2),
    ],
)
def test_another_format_is_an_error_of_one_line(content, line, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected a word and its numbers") as raised:
        read_vectors(path, {"river"})
    assert "\n" not in str(raised.value)
    if content:
        assert f"line {line}:" in str(raised.value)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="FileNotFoundError"):
        WordVectors(tmp_path / "none.txt")
    broken = tmp_path / "broken.txt.gz"
    broken.write_bytes(gzip.compress(b"river 1 0\n" * 100)[:30])
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(broken, {"moss"})
