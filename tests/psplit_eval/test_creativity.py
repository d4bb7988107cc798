"""The scorer of creative tasks: what it takes from a manifest and from docs."""

import math

import pytest

from psplit_eval.creativity import CreativityScorer
from psplit_eval.rescoring import NONE, Yardsticks, score_store
from psplit_eval.store import Doc, Sample, Store

SHIP = "The ship came home with grain, and the harbour was full of people who had waited long."
LAMP = "An old lamp stood in the window of the empty house, and somebody lit it every evening."


def scored(folder, scorer, doc, texts, yardsticks):
    """Numbers of one doc by mode and metric; `texts`: mode → texts."""
    with Store(folder / "samples.sqlite") as store:
        store.add_plan([], [Doc("t", 0, "h", doc, "")])
        store.add_samples(
            Sample(
                *(mode, "t", 0, index, "h", f"{mode}{index}", "p", 1, 1, text, None),
                *((1, 2), "stop", 5, 2, 1.0, 1.0, None, 0.1, "now"),
            )
            for mode, of_mode in texts.items()
            for index, text in enumerate(of_mode)
        )
        score_store(store, {"t": scorer}, yardsticks)
        return {(m.mode, m.metric): m.value for m in store.metrics("t", of_docs=True)}


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('touch ' + there) }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_template_of_a_foreign_manifest_runs_no_code(template, tmp_path):
    doc = Doc("t", 0, "h", {"there": str(tmp_path / "made")}, "")
    wanted = CreativityScorer("story", template).wanted(doc, {})
    assert not (tmp_path / "made").exists()
    assert "" not in wanted.texts
    assert not any("mro" in text or "class" in text for text in wanted.texts)


@pytest.mark.parametrize("template", ["{{ tools | join }}", "{{ 1 / n }}", "{{ lost }}", "{% if"])
def test_a_prompt_that_cannot_be_made_is_not_known(template, tmp_path):
    scorer = CreativityScorer("open", template)
    doc = {"tools": None, "n": 0}
    found = scored(tmp_path, scorer, doc, {"normal": [SHIP, LAMP]}, Yardsticks(NONE, NONE))
    assert not math.isnan(found["normal", "div_bleu_4"])
