"""docs/divergence.md and the README say of divergence what the code does, and what was measured."""

import csv
import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from psplit_eval.accuracy import Grade
from psplit_eval.behaviour import Behaviour
from psplit_eval.complementarity import DocSolutions, Solutions, complementary_findings
from psplit_eval.divergence import CARRIERS, Carrier, Pair, Stretch, token_findings
from psplit_eval.diverging import PLACEBOS
from psplit_eval.findings import FAMILY
from psplit_eval.placebos import MOST_PLACEBOS, placebo_prompts
from psplit_eval.stats import MINIMUM_DOCS
from psplit_eval.store import CrossSums
from psplit_eval.textual import TextDoc, text_findings
from psplit_eval.verdicts import Margins, Split, split

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "divergence.md").read_text()
README = (ROOT / "README.md").read_text()
FLAT = " ".join(PAGE.split())
"""Without line breaks."""
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "divergence_quick.json").read_text())
NUMBER = ["value", "ci_low", "ci_high", "n_docs"]


def rows(title):
    """The cells of every table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


def sums(bits, docs=range(6)):
    """Of one policy, a little different from doc to doc."""
    return {
        doc: CrossSums("policy", doc, 2, 10, *(bits + doc / 100 + i for i in range(5)))
        for doc in docs
    }


# What the code can measure


def measured():
    """The names of all measures: everything is known of these docs."""
    yield from token_findings("t", "a", "b", Pair.of(sums(1), sums(2)))
    vectors, grades = np.eye(2, dtype=np.float32), [Grade("1", True), Grade("2", False)]
    texts = ["one word", "two words"]
    docs = [TextDoc(i, texts, texts, vectors, vectors, grades, grades) for i in range(6)]
    yield from text_findings("t", "a", "b", docs)
    solved = [
        DocSolutions(i, Solutions(4, 2, (1, 1), 9.0), Solutions(4, 1, (1, 0), 9.0)) for i in (1, 2)
    ]
    yield from complementary_findings("t", "a", "b", solved)


def test_the_tables_have_all_measures_and_no_others():
    titles = ("Token by token", "Texts beside each other", "Solutions beside each other")
    described = [name for title in titles for row in rows(title) for name in named(row[0])]
    emitted = {re.sub(r"_at_\d+$", "_at_k", finding.measure) for finding in measured()}
    assert sorted(described) == sorted(emitted)


def test_measures_of_tokens_have_the_unit_and_tests_that_are_said():
    findings = {f.measure: f for f in token_findings("t", "a", "b", Pair.of(sums(1), sums(2)))}
    for measure, _, _, test, _ in rows("Token by token")[2:]:
        found = findings[named(measure)[0]]
        assert found.unit == "bits a token"
        assert bool(found.test) == (test != "none")


def test_the_sampled_kl_is_left_out_where_contexts_were_drawn_otherwise():
    drawn = token_findings("t", "a", "b", Pair.of(sums(1), sums(2)), drawn="temperature 0.6")
    assert "kl_sampled_bits" not in {finding.measure for finding in drawn}


# What split means


def of_docs(name, kl, entropy):
    """Sums of eight docs of ten tokens, which scatter in a way of their own."""
    scatter = np.random.default_rng(len(name)).normal(0, 0.05, (2, 8))
    return {
        doc: CrossSums(name, doc, 1, 10, 10 * entropy + h, 9.0, 10 * kl + k, 1.0, 1.0)
        for doc, (h, k) in enumerate(scatter.T)
    }


def verdict(role, **policies):
    """Of `mode` beside `normal`; of every other policy its (KL, entropy) a token."""
    known = {"normal": (0, 1), **policies}
    by_task = {"t": {name: of_docs(name, *both) for name, both in known.items()}}
    placebos = [name for name in policies if name != "mode"]
    return split("normal", "mode", role, by_task, placebos, Margins()).answer.verdict.value


def test_margins_are_those_of_the_page():
    margins = Margins()
    assert f"> {margins.kl:g}  bits a token" in PAGE
    assert f"> {margins.entropy:g} bits a token" in FLAT
    assert f"worse by {margins.accuracy:g} or more (`--keep-accuracy`)" in FLAT
    assert f"lower by {margins.quality:g} or more (`--keep-quality`)" in FLAT
    said = {row[0]: row for row in rows("divergence.json")}["`margins`"]
    assert [float(x) for x in re.findall(r"0\.\d+", said[2])] == list(vars(margins).values())
    assert named(said[1]) == [field.name for field in fields(Margins)]


def test_every_placebo_has_to_be_exceeded_in_both():
    near, far = (0.02, 1.01), (0.4, 1.4)
    assert verdict("high", mode=far, one=near, other=near, third=near) == "yes"
    assert verdict("high", mode=far, one=near, other=near) == "inconclusive"  # two are too few
    assert verdict("high", mode=far, one=near, other=far) == "no"
    assert verdict("high", mode=(0.4, 1.02), one=near, other=near) == "no"


def test_the_role_gives_the_direction():
    near, lower = (0.02, 1.01), (0.4, 0.5)
    verdicts = [
        verdict(role, mode=lower, a=near, bb=near, ccc=near) for role in ("high", "low", "other")
    ]
    assert verdicts == ["no", "yes", "yes"]


def test_without_a_placebo_nothing_is_decided():
    assert verdict("high", mode=(0.4, 1.4)) == "inconclusive"


def test_placebos_are_those_of_the_page():
    assert f"There are {PLACEBOS} by default" in FLAT
    assert f"(`--placebos N`, 0 to {MOST_PLACEBOS})" in FLAT
    assert f"Bonferroni: {2 * PLACEBOS + 1} with three placebos" in FLAT
    shown = dict(row[:2] for row in rows("Placebos")[2:])
    texts = placebo_prompts(40, lambda text: len(text.split()), PLACEBOS)
    names = [f"placebo_{i}" for i in range(1, PLACEBOS + 1)]
    assert [named(name) for name in shown] == [[name] for name in names]
    for begins, text, name in zip(shown.values(), texts, names, strict=True):
        begins = begins.removesuffix(" …")
        assert len(begins.split()) > 8
        assert text.startswith(begins)
        assert MEASURED["placebos"][name].startswith(begins)


def test_few_docs_are_those_of_the_page():
    assert f"tasks with {MINIMUM_DOCS} docs or more" in FLAT


# divergence.json


def example():
    """One entry of everything."""
    by_task = {"t": {name: sums(i) for i, name in enumerate(("normal", "high", "placebo_1"))}}
    found: Split = split("normal", "high", "high", by_task, ["placebo_1"], Margins())
    pair = Pair.of(sums(0), sums(1))
    cell = ("t", "normal", "high")
    return Behaviour(
        reference="normal",
        answers=[found.answer],
        splits=[found],
        findings=list(token_findings(*cell, pair)),
        curves={cell: [Stretch(0, 0, pair.kl(), pair.kl(), pair.kl())]},
        carriers={cell: [("a", Carrier(1, 2, 3.0, 1.0))]},
        matrix={("normal", "high"): found.kl},
        placebos={"placebo_1": "Wait."},
        margins=Margins(),
    ).to_dict()


def entries(value):
    """The names in an entry of a field."""
    if isinstance(value, list):
        return list(value[0])
    return list(value) if isinstance(value, dict) else []


def test_fields_are_those_of_the_file():
    written = example()
    described = {}
    for cells in rows("divergence.json")[2:]:
        described |= {name: named(cells[1]) for name in named(cells[0])}
    beyond = described.pop("splits[].beyond_placebos")
    assert described.pop("placebos") == []  # by name
    assert described == {k: entries(v) for k, v in written.items() if k != "placebos"}
    assert beyond == entries(written["splits"][0]["beyond_placebos"])
    assert written["family"] == FAMILY
    assert f"the {CARRIERS} that carry most" in FLAT


def test_numbers_have_a_value_and_an_interval():
    written = example()
    names = [["splits", "kl_bits"], ["splits", "entropy_gap_bits"], ["matrix", "kl_bits"]]
    names += [["by_position", f"{of}_bits"] for of in ("kl", "entropy_mode", "entropy_policy")]
    for field, name in names:
        assert list(written[field][0][name]) == NUMBER
    assert "A *number* is `value`, `ci_low`, `ci_high` (95 % over docs) and `n_docs`" in FLAT


@pytest.mark.parametrize("field", sorted(MEASURED.keys() - {"commands", "seconds", "placebos"}))
def test_the_committed_numbers_have_the_form_of_the_file(field):
    assert entries(MEASURED[field]) == entries(example()[field])


# The example


def answer_lines():
    """As a report says them."""
    for a in MEASURED["answers"]:
        question = a["question"].capitalize()
        yield f"{question} ({a['mode_b']} beside {a['mode_a']}): {a['verdict']}. {a['evidence']}."


def quoted(page):
    return [" ".join(text.split()) for text in re.findall(r"```text\n(.*?)```", page, re.DOTALL)]


def test_quoted_answers_are_those_that_were_given():
    first, *_, kept, creative = answer_lines()
    assert first in quoted(PAGE)
    assert f"{first} {kept} {creative}" in quoted(README)


def numbers(cells):
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", " ".join(cells))]


def test_the_table_of_the_example_is_what_was_measured():
    table = {named(row[0])[0]: row for row in rows("An example")[2:]}
    splits = {entry["mode"]: entry for entry in MEASURED["splits"]}
    for mode, entry in splits.items():
        of_mode = [entry[name]["value"] for name in ("kl_bits", "entropy_gap_bits")]
        assert numbers(table.pop(mode)) == pytest.approx(of_mode, abs=5.1e-4)
        assert entry["verdict"] == "no"
    kl, entropy = (splits["high"][name]["value"] for name in ("kl_bits", "entropy_gap_bits"))
    beyond = splits["high"]["beyond_placebos"]
    excess = {(entry["measure"], entry["placebo"]): entry["excess"] for entry in beyond}
    for name, row in table.items():
        of_placebo = kl - excess["kl", name], entropy - excess["entropy", name]
        assert numbers(row) == pytest.approx(of_placebo, abs=5.1e-4)
    assert table.keys() == MEASURED["placebos"].keys()


def finding(task, measure, mode="normal"):
    return next(
        f
        for f in MEASURED["findings"]
        if (f["task"], f["measure"], f["mode_a"]) == (task, measure, mode)
    )


def kl(mode, policy):
    pair = (mode, policy)
    return next(m for m in MEASURED["matrix"] if (m["mode"], m["policy"]) == pair)["kl_bits"][
        "value"
    ]


def own_entropy(mode):
    with (ROOT / "figures" / "quick" / "leaderboard.csv").open() as file:
        wanted = ("psplit_sums", "entropy_bits", mode)
        rows = [r for r in csv.DictReader(file) if (r["task"], r["metric"], r["mode"]) == wanted]
    return float(rows[0]["value"])


def stretch(first):
    return next(s for s in MEASURED["by_position"] if s["first"] == first)["kl_bits"]["value"]


def token(text):
    return next(t for t in MEASURED["tokens"] if t["text"] == text)


def sayings():
    yield (
        "has 0.205 bits a token more than normal",
        MEASURED["splits"][0]["entropy_gap_bits"]["value"],
    )
    rest = next(e for e in MEASURED["splits"][0]["beyond_placebos"] if e["measure"] == "entropy")
    yield "The rest, 0.103, is above", rest["excess"]
    yield "KL(high‖high_rewritten) is 0.021", kl("high", "high_rewritten")
    yield "KL(high‖low) 0.044", kl("high", "low")
    yield "KL(high‖normal) 0.073", kl("high", "normal")
    yield "`entropy_bits` is 2.50 (normal)", own_entropy("normal")
    yield "and 2.47 (high)", own_entropy("high")
    yield "high has 0.232", finding("psplit_sums", "entropy_gap_bits")["value"]
    yield "KL is 0.132 at tokens 4 to 7", stretch(4)
    yield "and 0.033 from token 64 on", stretch(64)
    yield "`energy_distance` has p 0.008", finding("psplit_sums", "energy_distance")["p_adjusted"]
    yield "11 % of KL(normal‖high) is at the token `ol`", 100 * token("ol")["share"]
    yield "took 667 s", MEASURED["seconds"]["scoring"]
    yield "beside 221 s", MEASURED["seconds"]["sampling"]
    yield "8 % at `LM`", 100 * token("LM")["share"]


@pytest.mark.parametrize(("said", "value"), [pytest.param(*s, id=s[0]) for s in sayings()])
def test_what_is_said_of_the_example_was_measured(said, value):
    assert said in FLAT
    shown = re.findall(r"\d+\.\d+|\d+(?= [%s])", said)[-1]
    places = len(shown.partition(".")[2])
    assert float(shown) == pytest.approx(value, abs=0.501 * 10**-places)


def test_rare_tokens_were_said_as_often_as_is_said():
    assert token("ol")["places"] == 3
    assert token("LM")["places"] == 2
    assert "said 3 times in 192 samples, and 8 % at `LM`, said twice" in FLAT


def test_low_raises_entropy_beyond_every_placebo():
    low = next(entry for entry in MEASURED["splits"] if entry["mode"] == "low")
    beyond = [e["excess"] for e in low["beyond_placebos"] if e["measure"] == "entropy"]
    assert min(beyond) > 0


def test_links_lead_somewhere():
    """To files, and to headings of them."""
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", PAGE):
        path = ROOT / "docs" / link if link else ROOT / "docs" / "divergence.md"
        assert path.exists(), link
        titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
        slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not anchor or anchor in slugs, anchor
