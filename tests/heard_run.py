"""A ledger of verdicts that are all known, and the store of what they are about."""

import math

from judgeable import sample

from psplit_eval.cards import USABLE
from psplit_eval.hearing import read_judged
from psplit_eval.judged import Belief
from psplit_eval.ledger import Call, Judgement, Ledger
from psplit_eval.replies import FIRST
from psplit_eval.rubrics import find_rubric
from psplit_eval.store import Store

STORY, ANSWER = find_rubric("story"), find_rubric("answer")
TASK, DOCS, SAMPLES = "psplit_story", 12, 2
MODES = ["normal", "high"]
TRUSTED = Belief(USABLE, USABLE, USABLE)


class Run:
    """A store of samples, and a ledger that is filled by functions of a sample's place."""

    def __init__(self, folder, modes=MODES):
        self.store, self.ledger = Store(folder / "s.sqlite"), Ledger(folder / "l.sqlite")
        self.modes = modes
        every = [(m, d, i) for m in modes for d in range(DOCS) for i in range(SAMPLES)]
        self.store.add_samples(
            sample(m, TASK, d, i, "p", text="word " * (20 + 5 * (m == "high") + d))
            for m, d, i in every
        )

    def scored(self, score, judge="openai:a", rubric=STORY, planned=None):
        """`score(mode, doc, index)`: a number, or None for a verdict that could not be read."""
        self.ledger.introduce(judge, {}, rubric.hash, rubric.to_dict())
        number = DOCS * SAMPLES if planned is None else planned
        cells = {("scores", TASK, mode, ""): number for mode in self.modes}
        self.ledger.plan(judge, rubric.hash, cells)
        for mode in self.modes:
            for doc in range(DOCS):
                for index in range(SAMPLES):
                    value = score(mode, doc, index)
                    if value is not ...:
                        verdict = None if value is None else dict.fromkeys(rubric.names, value)
                        self._add(judge, rubric, "scores", doc, (mode, index, "", -1), verdict)

    def chosen(self, share, judge="openai:a", rubric=STORY, planned=None):
        """`share(first mode, other mode, doc)`: of the text that is shown first."""
        self.ledger.introduce(judge, {}, rubric.hash, rubric.to_dict())
        pairs = [(a, b) for a in self.modes for b in self.modes if a != b]
        number = DOCS * SAMPLES if planned is None else planned
        cells = {("choice", TASK, *pair): number for pair in pairs}
        self.ledger.plan(judge, rubric.hash, cells)
        for a, b in pairs:
            for doc in range(DOCS):
                for index in range(SAMPLES):
                    value = share(a, b, doc)
                    verdict = None if value is None else {FIRST: value}
                    self._add(judge, rubric, "choice", doc, (a, index, b, index), verdict)

    def _add(self, judge, rubric, kind, doc, about, verdict):
        name = f"{judge}{rubric.name}{kind}{doc}{about}"
        unreadable = "no verdict" if verdict is None else None
        call = Call(
            name, judge, rubric.hash, kind, verdict, unreadable, None, "", None, 1, 1, 1, 0.1, "now"
        )
        judgement = Judgement(judge, rubric.hash, kind, TASK, doc, *about, name)
        self.ledger.add([call], [judgement])

    def read(self, beliefs=None, **options):
        return read_judged(self.store, self.ledger, self.modes, beliefs or {}, **options)


def noisy(mode, doc, index):
    return 4 + (mode == "high") + 0.3 * doc % 2 + 0.2 * index + 0.1 * math.sin(7 * doc + index)
