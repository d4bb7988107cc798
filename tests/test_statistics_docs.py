"""docs/statistics.md says what the code does: its tables come from there."""

from pathlib import Path

import pytest

from psplit_eval.planning import Goal, PlanOptions, plan
from psplit_eval.protocol import PROTOCOL
from psplit_eval.stats import FEW_DOCS, MINIMUM_DOCS

DOC = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text()


def protocol_lines():
    for rule in PROTOCOL:
        test = "t, linearised ratios" if rule.ratio else "t"
        once = "McNemar's (numbers 0 and 1)" if rule.once else "the same"
        estimand = f"sample; given ({rule.given})" if rule.given else "sample"
        pairing = "by doc" if rule.more == "as it is" else f"by doc; {rule.more}"
        below = f"values; under {FEW_DOCS} that differ: swap test"
        cells = (rule.metrics, rule.number, rule.unit, test, once, pairing, estimand)
        yield f"| {' | '.join([*cells, str(MINIMUM_DOCS), below])} |"


def plan_lines():
    for row in plan(PlanOptions(suite="paper", goal=Goal({"": 0.015}))).rows:
        facts = row.facts
        known = facts.parts is not None or (not facts.source and facts.docs_in_all is None)
        detectable = f"{row.detectable * 100:.2f}" if known else "–"
        chance = f"{row.chance:.0%}".replace("%", " %") if known else "–"
        name = facts.task if facts.docs_in_all is None else f"`{facts.task}`"
        cells = (name, f"{facts.docs:,}", detectable, chance, row.verdict)
        yield f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("line", protocol_lines())
def test_the_table_is_the_protocol(line):
    assert line in DOC


@pytest.mark.parametrize("line", plan_lines())
def test_the_plan_of_the_published_setting_is_what_plan_says(line):
    assert line in DOC


@pytest.mark.parametrize(("gap", "said"), [(0.0088, "6 %"), (0.0175, "29 %")])
def test_how_often_the_published_differences_would_be_found(gap, said):
    average = plan(PlanOptions(suite="paper", goal=Goal({"": gap}))).rows[-1]
    assert f"{average.chance:.0%}".replace("%", " %") == said
    assert said in DOC
