"""Divergent association: which word list to trust, and what word sets of known kind come to.

    python benchmarks/association.py lists DICTIONARY   # which packages know the published words
    python benchmarks/association.py values             # what word sets come to with MiniLM

DICTIONARY is the published test's list (JSON Lines with a field `words`). `lists` needs packages
that psplit does not: pip install wordfreq english-words symspellpy pyspellchecker. What came out
is in docs/association.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psplit_eval.association import FIRST, divergent_association, english_dictionary
from psplit_eval.embedding import Encoder
from psplit_eval.rows import read_rows

FREQUENT = 2.5
"""Zipf frequency (log10 per billion words): words that a reader meets now and then."""
DRAWS = 300
FIELDS = {
    "body": "arm eyes feet hand head leg body",
    "animals": "cat dog horse cow pig sheep goat",
    "fruit": "apple pear banana orange grape plum cherry",
    "kitchen": "pan pot knife fork spoon plate bowl",
    "vehicles": "car bus train truck bicycle boat plane",
    "weather": "rain snow wind storm fog hail thunder",
    "furniture": "chair table sofa bed desk shelf cupboard",
    "feelings": "anger joy fear sadness pride shame love",
    "tools": "hammer saw drill wrench pliers screwdriver chisel",
    "clothes": "shirt trousers dress coat sock hat skirt",
}


def lists(published: set[str]) -> Iterator[str]:
    """Of the frequent words without hyphen: how many of a list's are published, and found."""
    from wordfreq import iter_wordlist, zipf_frequency

    frequent = {
        word
        for word in {*iter_wordlist("en", "large"), *published}
        if word.isascii() and word.isalpha() and zipf_frequency(word, "en") >= FREQUENT
    }
    wanted = published & frequent
    yield "| list | right (precision) | found (recall) |\n|---|---|---|"
    for name, known in word_lists(frequent):
        right = len(known & wanted)
        yield f"| {name} | {right / len(known):.3f} | {right / len(wanted):.3f} |"


def word_lists(words: set[str]) -> Iterator[tuple[str, set[str]]]:
    """By name, those of `words` that a package knows."""
    import spellchecker
    import symspellpy
    from english_words import get_english_words_set

    english = english_dictionary()
    yield "Hunspell en_US (spylls)", {word for word in words if english(word)}
    file = Path(symspellpy.__file__).parent / "frequency_dictionary_en_82_765.txt"
    rows = file.read_text(encoding="utf-8-sig").splitlines()
    yield "symspellpy", words & {row.split()[0] for row in rows}
    yield "pyspellchecker", words & set(spellchecker.SpellChecker().word_frequency.words())
    yield "english-words (web2)", words & get_english_words_set(["web2"], lower=True)
    yield f"wordfreq (Zipf frequency {FREQUENT} or more)", words


def values() -> Iterator[str]:
    """Mean and spread of sets that are made on purpose."""
    yield "| words | sets | mean | sd | least | greatest |\n|---|---|---|---|---|---|"
    for name, sets in word_sets(random.Random(0)).items():
        found = associations(sets)
        spread = found.std(ddof=1), found.min(), found.max()
        cells = " | ".join(f"{value:.1f}" for value in (found.mean(), *spread))
        yield f"| {name} | {len(sets)} | {cells} |"


def word_sets(rng: random.Random) -> dict[str, list[list[str]]]:
    """From one field of meaning to dictionary words at random."""
    fields = [words.split() for words in FIELDS.values()]

    def drawn(counts: Sequence[int]) -> list[str]:
        chosen = rng.sample(fields, len(counts))
        return [
            word
            for words, count in zip(chosen, counts, strict=True)
            for word in rng.sample(words, count)
        ]

    nouns = everyday_nouns()
    return {
        "one field of meaning": fields,
        "two fields, 4 + 3": [drawn([4, 3]) for _ in range(DRAWS)],
        "seven fields, one each": [drawn([1] * FIRST) for _ in range(DRAWS)],
        "nouns at random": [rng.sample(nouns, FIRST) for _ in range(DRAWS)],
    }


def everyday_nouns() -> list[str]:
    """English words that TextBlob's lexicon has as nouns in the singular."""
    from textblob.en import lexicon

    english = english_dictionary()
    return sorted(w for w, tag in lexicon.items() if tag == "NN" and len(w) > 2 and english(w))


def associations(sets: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    words = sorted({word for each in sets for word in each})
    vectors = dict(zip(words, Encoder().encode(words), strict=True))
    return np.array([divergent_association(each, vectors) for each in sets])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("lists").add_argument("dictionary", type=Path)
    commands.add_parser("values")
    options = parser.parse_args()
    if options.command == "values":
        print(*values(), sep="\n")
    else:
        rows = read_rows(options.dictionary)
        print(*lists({word for row in rows for word in row["words"]}), sep="\n")


if __name__ == "__main__":
    main()
