"""Fluency of lists of uses: what people wrote, the same words shuffled, words at random.

    python benchmarks/validity_lists.py

Lists are no prose, so their floor of fluency is read off lists. Every other list is for the bounds,
the rest is held out. Data: alternate uses of PSPLIT_TEST_DATA (SocialMuse: one person's ideas for
an object; Ocsai: eight people's uses of one).
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
from labelled import data

from psplit_eval.quality import Observed, passes, quality, surprise
from psplit_eval.reference import ReferenceModel
from psplit_eval.scoring import Chain

SEED = 7
PROMPT = (
    "List as many unusual uses for a {} as you can think of. The ordinary use does not count. "
    "Write one use per line, each a short phrase, and nothing else."
)
PLACE = Path(__file__).parent / "results" / "validity_lists.csv"


def written(rng: random.Random) -> list[tuple[str, str]]:
    """(object, list of five to ten uses)."""
    of_person, of_object = defaultdict(list), defaultdict(list)
    for row in data("aut/socialmuse_human_buckets.jsonl.gz"):
        of_person[row["object"], row["participant"]].append(row["idea"])
    for row in data("aut/ocsai1_main2.jsonl.gz"):
        of_object[row["item"]].append(row["response"])
    lists = [(thing, uses[:10]) for (thing, _), uses in of_person.items() if len(uses) >= 5]
    rng.shuffle(lists)
    mixed = [(thing, rng.sample(uses, 8)) for thing, uses in of_object.items() for _ in range(2)]
    return [(thing, "\n".join(uses)) for thing, uses in [*lists[:70], *mixed]]


def shuffled(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return "\n".join(" ".join(words[start : start + 5]) for start in range(0, len(words), 5))


def main() -> None:
    rng = random.Random(SEED)
    lists = written(rng)
    known = [word for _, text in lists for word in text.split()]
    sets = {
        "written": [text for _, text in lists],
        "shuffled": [shuffled(text, rng) for _, text in lists],
        "random": ["\n".join(" ".join(rng.sample(known, 5)) for _ in range(8)) for _ in lists],
    }
    prompts, model = [PROMPT.format(thing) for thing, _ in lists], ReferenceModel()
    with PLACE.open("w", newline="") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(["set", "half", "statistic", "value", "n"])
        for name, texts in sets.items():
            chains = [Chain(p, (t,), chat=True) for p, t in zip(prompts, texts, strict=True)]
            bits = [pieces[0] for pieces in model.surprisals(chains)]
            found = np.array([surprise(each, 0.75) for each in bits])
            passed = [
                passes(quality(Observed(t, p, b, listed=True)).value)
                for t, p, b in zip(texts, prompts, bits, strict=True)
            ]
            for half, start in (("bounds", 0), ("held out", 1)):
                part = found[start::2]
                for share in (1, 5, 50, 95, 99):
                    value = round(float(np.percentile(part, share)), 2)
                    write([name, half, f"bits_percentile_{share}", value, len(part)])
                failing = round(1 - float(np.mean(passed[start::2])), 4)
                write([name, half, "fail", failing, len(part)])


if __name__ == "__main__":
    main()
