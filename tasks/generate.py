"""Write the rows of psplit_sums and psplit_reading: `python tasks/generate.py`.

Seeded, so that the same rows come out anywhere; a test compares them with the committed files.
"""

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

SEED = 20260411
ROWS = 64

NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Hugo"]
THINGS = ["books", "pens", "cups", "hats", "coins", "maps", "keys", "stamps"]


def sums(rng: random.Random) -> list[dict[str, Any]]:
    """Every ordered pair of numbers from 2 to 9, once, in a shuffled order."""
    pairs = list(product(range(2, 10), repeat=2))
    rng.shuffle(pairs)
    return [{"a": a, "b": b, "answer": str(a + b)} for a, b in pairs[:ROWS]]


def reading(rng: random.Random, count: int = ROWS) -> list[dict[str, Any]]:
    """Two people own different numbers of a thing; one of the two is asked for."""
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        (one, two), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
        counts = rng.sample(range(2, 20), 2)
        asked = rng.randrange(2)
        story = f"{one} has {counts[0]} {thing}. {two} has {counts[1]} {thing}."
        question = f"How many {thing} does {(one, two)[asked]} have?"
        row = {"story": story, "question": question, "answer": str(counts[asked])}
        rows.setdefault(f"{story} {question}", row)
    return list(rows.values())


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def main(folder: Path) -> None:
    for name, make in (("psplit_sums", sums), ("psplit_reading", reading)):
        (folder / f"{name}.jsonl").write_text(lines(make(random.Random(f"{SEED}/{name}"))))


if __name__ == "__main__":
    main(Path(__file__).parent / "data")
