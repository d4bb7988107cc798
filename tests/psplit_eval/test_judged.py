"""What several judges said of one run."""

import krippendorff
import pytest
from labelled_run import MODES, RUBRIC, TASK, Flattered, judge, make_run, texts, worth

from psplit_eval.hearing import read_judged
from psplit_eval.judge_tables import judge_tables
from psplit_eval.judges import Reply
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.store import Store


class Honest(Flattered):
    """Says what people say."""

    name = "openai:honest"

    def _reply(self, text):
        return Reply(dict.fromkeys(RUBRIC.names, worth(text)))


def test_docs_are_the_units_of_agreement(tmp_path):
    folder = make_run(tmp_path / "run", docs=7, samples=3)
    for by in (Flattered(), Honest()):
        judge(folder, by)
    with Ledger(folder / LEDGER) as ledger, Store(folder / "samples.sqlite") as store:
        judged = read_judged(store, ledger, list(MODES), {})
    found = judged.agreement[RUBRIC.hash, TASK, "creativity"]
    honest = [worth(text) for text in texts(folder).values()]
    flattered = [
        score + 2.5 * ("Behold" in text)
        for score, text in zip(honest, texts(folder).values(), strict=True)
    ]
    expected = krippendorff.alpha(
        reliability_data=[honest, flattered], level_of_measurement="interval"
    )
    assert found.value == pytest.approx(expected)
    assert found.n == 7  # of 42 samples
    assert found.ci_low < found.value < found.ci_high
    (table,) = (t for t in judge_tables(judged) if t.title == "Judges: agreement of the panel")
    assert table.rows[0][-1] == "7"
