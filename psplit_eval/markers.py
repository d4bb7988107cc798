"""Words by which a text shows that it reasons: hedging, checking again, looking for another way.

The count is lexical, of English phrases of our own choice. It knows no meaning: "might" is counted
as a noun, too, and "wait" in a story about a bus stop. So compare modes on the same docs, where
false friends are alike, and believe no single number. Texts in other languages count 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from statistics import fmean
from types import MappingProxyType

from psplit_eval.findings import Finding
from psplit_eval.stats import paired_mean_difference

__all__ = ["LEXICONS", "marker_counts", "marker_findings", "word_count"]

LEXICONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "hedging": (
            "apparently",
            "arguably",
            "as far as i know",
            "can't be sure",
            "could be",
            "hard to say",
            "i am not sure",
            "i assume",
            "i believe",
            "i guess",
            "i suppose",
            "i suspect",
            "i think",
            "i'm not certain",
            "i'm not sure",
            "it seems",
            "likely",
            "may be",
            "maybe",
            "might",
            "perhaps",
            "possibly",
            "presumably",
            "probably",
            "seemingly",
            "seems to be",
            "somewhat",
            "unclear",
            "unlikely",
        ),
        "rechecking": (
            "am i missing",
            "check again",
            "check this",
            "check that",
            "check my",
            "did i",
            "double check",
            "double-check",
            "double checking",
            "double-checking",
            "go back",
            "hold on",
            "i made a mistake",
            "i made an error",
            "is that right",
            "is this right",
            "is that correct",
            "is this correct",
            "let me check",
            "let me double check",
            "let me double-check",
            "let me re-examine",
            "let me recheck",
            "let me re-check",
            "let me reconsider",
            "let me recompute",
            "let me rethink",
            "let me see if",
            "let me verify",
            "let's check",
            "let's double check",
            "let's double-check",
            "let's verify",
            "make sure",
            "on second thought",
            "re-check",
            "re-examine",
            "recheck",
            "reconsider",
            "sanity check",
            "that can't be right",
            "that doesn't seem right",
            "that's not right",
            "to verify",
            "verify",
            "verifying",
            "wait",
        ),
        "alternatives": (
            "a different approach",
            "a different way",
            "alternative approach",
            "alternative way",
            "alternatively",
            "another approach",
            "another idea",
            "another method",
            "another option",
            "another possibility",
            "another way",
            "by contrast",
            "conversely",
            "instead, we could",
            "instead, i could",
            "on the other hand",
            "or i could",
            "or maybe",
            "or perhaps",
            "or we could",
            "other approach",
            "other approaches",
            "other option",
            "other options",
            "other way",
            "other ways",
            "there is another",
            "try a different",
            "try another",
            "what if",
        ),
    }
)
"""Marker → its phrases. Of phrases that overlap the longest counts, once."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def word_count(text: str) -> int:
    """Words of a text: runs of letters and digits, apostrophes inside.

    In scripts without spaces a run is a whole clause.
    """
    return sum(1 for _ in _WORD.finditer(text))


def marker_counts(text: str) -> dict[str, int]:
    """How often each marker of `LEXICONS` occurs, whole words only, in any case.

    A phrase may go over a line break, and apostrophes may be typographic. No marker: 0.

    >>> marker_counts("Wait, perhaps I should double-check.")
    {'hedging': 1, 'rechecking': 2, 'alternatives': 0}
    """
    lower = text.lower()
    return {name: sum(1 for _ in found.finditer(lower)) for name, found in _patterns().items()}


@lru_cache(maxsize=1)
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: _pattern(phrases) for name, phrases in LEXICONS.items()}


def _pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    escaped = (re.escape(phrase).replace(r"\ ", r"\s+") for phrase in longest_first)
    either = "|".join(escaped).replace("'", "['’]")
    first = "".join({phrase[0] for phrase in phrases})  # most words need no other look
    return re.compile(rf"\b(?<!-)(?=[{first}])(?:{either})(?![\w-])")


def marker_findings(
    task: str,
    mode_a: str,
    mode_b: str,
    docs: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> list[Finding]:
    """Differences b − a of markers a 100 words, of the share of samples with any, and of length.

    `docs`: texts of a's and of b's samples. A doc's number is the mean over its samples, whatever
    their number. A sample without words has no rate, and is left out there: of docs where an arm
    has no other the rate is not compared. It counts as a sample without markers, and has length 0.
    Docs without samples in an arm are left out. Notes have the values of both modes.
    """
    kept = [(list(map(_measured, a)), list(map(_measured, b))) for a, b in docs if a and b]
    found = []
    for name in chain.from_iterable([f"{m}_per_100_words", f"{m}_share"] for m in LEXICONS):
        found.append((name, "fraction" if name.endswith("_share") else "a 100 words"))
    found += [("words", "words"), ("characters", "characters")]
    return [_compared(task, mode_a, mode_b, name, unit, kept) for name, unit in found]


def _measured(text: str) -> dict[str, float]:
    """Numbers of one sample; without words it has no rates."""
    words = word_count(text)
    numbers: dict[str, float] = {"words": words, "characters": len(text)}
    for name, count in marker_counts(text).items():
        numbers[f"{name}_share"] = float(count > 0)
        if words:
            numbers[f"{name}_per_100_words"] = 100 * count / words
    return numbers


_Samples = Sequence[Mapping[str, float]]


def _compared(
    task: str,
    mode_a: str,
    mode_b: str,
    name: str,
    unit: str,
    docs: Sequence[tuple[_Samples, _Samples]],
) -> Finding:
    arms = [tuple([s[name] for s in arm if name in s] for arm in doc) for doc in docs]
    rows = [(fmean(a), fmean(b)) for a, b in arms if a and b]
    left, right = ([row[side] for row in rows] for side in (0, 1))
    difference = paired_mean_difference(left, right, fraction=unit == "fraction")
    note = "" if rows else "undefined: needs a doc with words in both modes"
    return Finding.of_difference(task, mode_a, mode_b, name, unit, difference, note)
