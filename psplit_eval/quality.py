"""Quality of one sample by stated rules, without a judge; diversity among the samples that pass.

Noise is as diverse as can be, so diversity is worth something only beside quality. Every part of
quality is in [0, 1] and asks one thing of a text; `quality` is the worst of them. The rules tell a
text from salad, loops and answers to something else. They can't see whether it is true, wise, well
built or moving: that takes people or a judge.

The bounds of every part were read off texts, good ones of people and models and the same broken on
purpose (benchmarks/validity_quality.py, one half of the prompts). A part is 1 up to what half of
the good texts keep; 1/2 half-way between the last of a hundred good ones and the first twentieth of
those broken in the way that it is for, or beyond the last good ones where the two overlap; and
falls along a straight line to 0. Hence FLOOR, the same for all parts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psplit_eval.errors import MissingExtraError

__all__ = [
    "FLOOR",
    "TRUNCATED",
    "Observed",
    "Quality",
    "echo",
    "effective_distinct",
    "effective_diversity",
    "is_english",
    "known_share",
    "passes",
    "passing_share",
    "quality",
    "repeated_share",
    "surprise",
    "topicality",
]

FLOOR = 0.5
"""A sample passes if its quality is at least this: every part is nearer to good than to broken."""
TRUNCATED = 0.9
"""At most this, if a text was cut off: it has lost its end, which alone is no failure."""

WINDOW = 16
"""Tokens that are looked at together; tokens, or words, a shorter text is filled up to."""
TYPICAL_BITS, MOST_BITS = 4.0, 16.0
TYPICAL_COSINE = 0.45
GRAM = 6
"""Words in a row that good texts seldom repeat."""

_LANGUAGES = ("es", "fr", "de", "it", "pt", "nl", "pl", "sv", "cs", "fi", "ro", "id", "tr", "hu")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’-][^\W_]+)*")
_RUN = re.compile(r"(\S.{0,7}?)\1{9,}", re.DOTALL)
_CJK = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})


@dataclass(frozen=True)
class Observed:
    """All that quality looks at.

    `token_bits`: −log2 p of each token of `text` under a reference language model of English, the
    prompt before it in the model's chat template; empty where there is no such model.
    `topic_cosine`: cosine of the sentence vectors of text and prompt; NaN where there are none.
    `listed`: a list of phrases was asked for, which is less fluent than prose.
    """

    text: str
    prompt: str
    token_bits: Sequence[float] | NDArray[np.floating[Any]] = ()
    topic_cosine: float = math.nan
    truncated: bool = False
    listed: bool = False


@dataclass(frozen=True)
class Quality:
    """`value` and every part in [0, 1], higher is better; NaN: a part that was not judged."""

    value: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class _Ramp:
    """1 up to `good`, 1/2 at `floor`, on to 0 along a straight line; either may be the greater."""

    good: float
    floor: float

    def __call__(self, found: float) -> float:
        """NaN stays NaN."""
        fall = (found - self.good) / (self.floor - self.good)
        return math.nan if math.isnan(fall) else min(1.0, max(0.0, 1.0 - fall / 2))


_OF_LISTS = {"fluency": _Ramp(good=6.4, floor=8.3)}
"""Read off people's lists of uses (benchmarks/validity_lists.py)."""
_BOUNDS: dict[str, _Ramp] = {
    "fluency": _Ramp(good=4.5, floor=7.6),
    "predictability": _Ramp(good=0.8, floor=0.4),  # greedy answers have 0.9 and are no loops
    "words": _Ramp(good=1.0, floor=0.8),
    "repetition": _Ramp(good=0.0, floor=0.25),
    "echo": _Ramp(good=0.1, floor=0.55),
    "on_topic": _Ramp(good=0.45, floor=0.05),  # people's stories wander, the farthest to 0.07
}


def quality(observed: Observed, without: Collection[str] = ()) -> Quality:
    """The worst part of a text; in [0, 1], higher is better; 0 for a text of blanks.

    Parts: `fluency`, not too surprising to the reference model (`surprise` at 0.75);
    `predictability`, nor a loop to it (at 0.25); `words` (`known_share`); `repetition`
    (`repeated_share`); `echo` of the prompt; `on_topic` (`topicality`); `whole`, 1 or TRUNCATED.

    A part is NaN, and does not count, where nothing is known (no tokens, no cosine); where it is
    named in `without`: ten nouns as different as can be are right and far from fluent. So are
    `fluency`, `predictability`, `words` and `on_topic` of texts in other languages than English, of
    which models and word list know nothing: compare their quality with that of their like only.
    Raises MissingExtraError without wordfreq.
    """
    text, english = observed.text, is_english(observed.text)
    found = {
        "fluency": surprise(observed.token_bits, 0.75) if english else math.nan,
        "predictability": surprise(observed.token_bits, 0.25) if english else math.nan,
        "words": known_share(text) if english else math.nan,
        "repetition": repeated_share(text),
        "echo": echo(text, observed.prompt),
        "on_topic": topicality(observed.topic_cosine, text) if english else math.nan,
    }
    bounds = _BOUNDS | (_OF_LISTS if observed.listed else {})
    parts = {name: bounds[name](value) for name, value in found.items()}
    parts["whole"] = TRUNCATED if observed.truncated else 1.0
    parts |= dict.fromkeys(without, math.nan)
    judged = [value for value in parts.values() if not math.isnan(value)]
    return Quality(min(judged, default=math.nan) if text.strip() else 0.0, parts)


def passes(quality: float) -> bool:
    """Whether a quality is at least FLOOR; False for NaN: what is unknown does not pass."""
    return quality >= FLOOR


def passing_share(qualities: Sequence[float]) -> float:
    """Share of samples that pass; in [0, 1], higher is better; NaN without samples."""
    return fmean(map(passes, qualities)) if qualities else math.nan


# --- diversity among what passes ---


def effective_diversity(
    distances: NDArray[np.float64], passing: Sequence[bool] | NDArray[np.bool_]
) -> float:
    """Mean over all pairs of k samples of their distance, 0 where one of the two does not pass.

    `distances`: (k, k), symmetric; the range is theirs (with cosine distances, [0, 2]), higher is
    better. The order of the samples changes nothing. All k (k − 1) / 2 pairs count, so a failing
    sample is a loss, and as many samples must be compared with as many. NaN for fewer than two
    samples; 0 where fewer than two pass. Equal to the plain mean of distances where all pass.

    Effective semantic diversity, after Shypula et al. 2025 (arXiv 2504.12522), with distances in
    the place of their same-or-not and FLOOR in that of their check of validity.
    """
    kept = np.asarray(passing, dtype=bool)
    k = len(kept)
    if distances.shape != (k, k):
        raise ValueError(f"distances {distances.shape}: expected ({k}, {k}), one row a sample")
    if k < 2:
        return math.nan
    among = distances[np.ix_(kept, kept)]
    return float(among[np.triu_indices(len(among), 1)].sum() / (k * (k - 1) / 2))


def effective_distinct(classes: Sequence[Hashable], passing: Sequence[bool]) -> int:
    """How many classes of same answers have a member that passes; 0 … k, higher is better."""
    return len({kind for kind, kept in zip(classes, passing, strict=True) if kept})


# --- what the parts are made of ---


def surprise(token_bits: Sequence[float] | NDArray[np.floating[Any]], share: float) -> float:
    """Bits a token that this share of the text's windows of WINDOW tokens don't exceed; ≥ 0.

    Windows, not the mean over the text, since half a text of salad is salad; a quantile, not the
    greatest, since that grows with length. A token counts at most MOST_BITS: a rare name is no
    salad. A text shorter than a window is filled up with tokens of TYPICAL_BITS: a few tokens
    prove little. NaN without tokens.
    """
    if not len(token_bits):
        return math.nan
    bits = np.minimum(np.asarray(token_bits, dtype=np.float64), MOST_BITS)
    filled = np.concatenate([bits, np.full(max(0, WINDOW - len(bits)), TYPICAL_BITS)])
    sums = np.concatenate([[0.0], filled.cumsum()])
    return float(np.quantile((sums[WINDOW:] - sums[:-WINDOW]) / WINDOW, share))


def known_share(text: str) -> float:
    """Share of the letters in Latin script that lie in English words; in [0, 1].

    A word is known by wordfreq's frequency on the Zipf scale: 1.5, and more for short words, since
    any three letters are somebody's abbreviation. A text of fewer than 2 WINDOW words is filled up
    with known ones: names that are asked for are often coined. NaN without Latin letters.
    """
    words = _latin_words(text)
    if not words:
        return math.nan
    weight = min(1.0, len(words) / (2 * WINDOW))
    return weight * _known_letters(words, "en") + 1.0 - weight


def repeated_share(text: str) -> float:
    """Share of the text that says again what it said; in [0, 1]; 0 for an empty text.

    Words (signs in Chinese, Japanese, Korean) within GRAM in a row that stood in the text before;
    or characters within ten or more repetitions of the same few, if these are more.
    """
    units = _UNIT.findall(text.lower())
    words = _spread(_repeats(units), len(units)) / len(units) if units else 0.0
    run = sum(len(match.group()) for match in _RUN.finditer(text))
    return max(words, run / len(text) if text else 0.0)


def echo(text: str, prompt: str) -> float:
    """Share of the text's words within GRAM in a row that stand in the prompt; in [0, 1]."""
    units = _UNIT.findall(text.lower())
    grams = set(_grams(_UNIT.findall(prompt.lower())))
    inside = [gram in grams for gram in _grams(units)]
    return _spread(inside, len(units)) / len(units) if units else 0.0


def topicality(cosine: float, text: str) -> float:
    """Cosine of text and prompt; in [−1, 1]; NaN stays NaN.

    A text of fewer than WINDOW words is filled up with words of TYPICAL_COSINE: the vector of
    'Paris' is far from that of the question it answers.
    """
    weight = min(1.0, len(_UNIT.findall(text)) / WINDOW)
    return weight * cosine + (1.0 - weight) * TYPICAL_COSINE


def is_english(text: str) -> bool:
    """Whether the English models and word list are asked about a text: where in doubt, yes.

    No: nine of ten letters are of one other script (Chinese, Japanese and Korean count as one), or
    a frequent word of another language covers 70 % of the letters, 20 points more than English
    words do, in WINDOW / 2 words at least. So salad of scripts and languages counts as English.
    """
    scripts: Counter[str] = Counter()
    for sign, count in Counter(text).items():
        if sign.isalpha():
            scripts[_script(sign)] += count
    if not scripts:
        return True
    most, count = scripts.most_common(1)[0]
    if most != "LATIN":
        return count < 0.9 * scripts.total()
    words = _latin_words(text)
    if len(words) < WINDOW / 2:
        return True
    english = _known_letters(words, "en")
    if english >= 0.8:
        return True
    most_known = max(_known_letters(words, language) for language in _LANGUAGES)
    return most_known < max(0.7, english + 0.2)


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "UNNAMED").split()[0]
    return "CJK" if first in _CJK else first


def _latin_words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text) if _script(word[0]) == "LATIN"]


def _known_letters(words: Sequence[str], language: str) -> float:
    known = sum(len(word) for word in words if _is_known(word, language))
    return known / sum(map(len, words))


@lru_cache(maxsize=1 << 16)
def _is_known(word: str, language: str) -> bool:
    """English by a list of 300 000 words, others by their 25 000 most frequent: enough to tell."""
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise MissingExtraError("semantic", "word frequencies") from error
    stem = word.replace("’", "'").removesuffix("'s")
    size = "best" if language == "en" else "small"
    return bool(zipf_frequency(stem, language, wordlist=size) >= max(1.5, 5.0 - len(stem)))


def _grams(units: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(units[start:] for start in range(GRAM)), strict=False))


def _repeats(units: Sequence[str]) -> Iterator[bool]:
    """Of every n-gram, whether it has been there before."""
    seen: set[tuple[str, ...]] = set()
    for gram in _grams(units):
        yield gram in seen
        seen.add(gram)


def _spread(found: Iterable[bool], units: int) -> int:
    """How many units lie within the n-grams that were found."""
    covered = [False] * units
    for start, hit in enumerate(found):
        if hit:
            covered[start : start + GRAM] = [True] * GRAM
    return sum(covered)
