"""Samples and arms for tests of comparisons."""

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.arms import read_arms
from psplit_eval.rescoring import score_store
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Sample, Store

SCORER = AccuracyScorer(AnswerFormat(r"(\d+)"))


def sample(mode, doc, index, text, reason="stop", bits=4.0, tokens=2, task="t"):
    error = "server gone" if text is None else None
    return Sample(
        *(mode, task, doc, index, "h", f"{mode}{doc}{index}", "p", 1, 1, text, None, (1, 2)),
        *(reason, 5, tokens, bits, 1.0, error, 0.1, "now"),
    )


def arms_from(folder):
    """Samples → arms of them, scored by SCORER."""

    def build(samples):
        scorers = {s.task: SCORER for s in samples}
        with Store(folder / "s.sqlite") as store:
            docs = sorted({(s.task, s.doc_id) for s in samples})
            store.add_plan([], [Doc(task, doc, "h", {}, "1") for task, doc in docs])
            store.add_samples(samples)
            score_store(store, scorers)
            return read_arms(store, scorers, sorted({s.mode for s in samples}))

    return build


def grid(right):
    """Two modes, 12 docs, 4 samples; `right(mode, doc, index)` says which are right."""
    return [
        sample(mode, doc, index, "1" if right(mode, doc, index) else "2")
        for mode in "ab"
        for doc in range(12)
        for index in range(4)
    ]


def primary(comparisons):
    (found,) = [c for c in comparisons if c.primary]
    return found
