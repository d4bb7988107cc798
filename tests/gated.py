"""Small runs whose samples are right as they are told, and gates on them."""

from boarding import make_run

from psplit_eval.gate import gate
from psplit_eval.gate_rules import read_rules

DOCS = 60


def right(gains=(), losses=()):
    """Of a doc's four samples 1, 2 or 3; one more where doc % 6 is in `gains`, one less in
    `losses`."""
    return lambda mode, doc, index: index < 1 + doc % 3 + (doc % 6 in gains) - (doc % 6 in losses)


ALIKE = right(gains=(0,), losses=(5,))
"""No better and no worse, and yet other samples."""
WORSE = right(losses=(1, 3, 5))
BETTER = right(gains=(0, 2, 4))
ODD = right(losses=(1,))
"""A little worse: too little to tell from a margin of 0.05."""


def made(folder, name, of=None, **changed):
    """A run of 60 docs with 4 samples each in the modes normal and high."""
    return make_run(folder / name, name, of or right(), **{"docs": range(DOCS)} | changed)


def per_doc(of, docs=range(DOCS), mode="normal"):
    """Shares of right samples, as the answers were made."""
    return [sum(of(mode, doc, index) for index in range(4)) / 4 for doc in docs]


def rules(folder, *lines, **fields):
    """A file of rules, each in YAML's flow form."""
    path = folder / "gate.yaml"
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    path.write_text(f"format: 1\n{head}rules:\n" + "".join(f"  - {line}\n" for line in lines))
    return path


def gated(folder, baseline, candidate, *lines, allowed=(), allow_missing=False, **fields):
    """What a gate with these rules says."""
    read = read_rules(rules(folder, *lines, **fields))
    return gate(baseline, candidate, read, allowed, allow_missing)
