"""docs/reference/metrics.md has every number that psplit writes, as the code has it."""

import re
from pathlib import Path

import numpy as np
import pytest
from comparing import arms_from, grid, primary

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.comparison import compare_modes
from psplit_eval.creativity import FORMS, CreativityScorer
from psplit_eval.judged import JudgedRun, Preferred, Ranked
from psplit_eval.preferences import Ballot, at_equal_length, strengths, win_rate
from psplit_eval.scoring import AccuracyScorer, Answers, Evidence
from psplit_eval.store import Doc, Sample

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
BETTER = {True: "higher", False: "lower", None: "neither"}
TEXT = (
    "The old sailor opened the door of the lighthouse and looked at the grey sea. Nobody had come "
    "to the island for a year, and the lamp had only oil for one more night. He wrote a letter to "
    "his daughter, put it into a bottle and threw it into the waves, and the answer is {}."
)
LISTS = {
    "words": "1. river\n2. lamp\n3. justice\n4. horse\n5. cloud\n6. violin\n7. salt\n8. law {}",
    "uses": "1. a doorstop\n2. a weight for a net\n3. a drum for {} children",
}


def rows(title):
    """The cells of every table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


def described(title):
    """Name → unit, better, of a table with these columns; cells may be lists, too."""
    found = {}
    for row in rows(title):
        names, units = named(row[0]), row[1].split(", ")
        units = units if len(units) == len(names) else [row[1]] * len(names)
        found |= {name: (unit, row[3]) for name, unit in zip(names, units, strict=True)}
    return found


def sample(text, index, mode, task="t"):
    return Sample(
        *(mode, task, 0, index, "h", "r", "p", 1, 1, text, None, (1, 2), "stop", 5, 2),
        *(1.0, 1.0, None, 0.1, "now"),
    )


def direction(text):
    """A vector of a text's own, as long as those that ratings were fitted with."""
    vector = np.random.default_rng(list(text.encode())).normal(size=384).astype(np.float32)
    return vector / np.linalg.norm(vector)


def answers(form):
    """Three samples in two modes, of which everything is known."""
    text = LISTS.get(form, TEXT)
    doc = Doc("t", 0, "h", {"premise": "A lighthouse.", "object": "a brick"}, "")
    by_mode = {
        mode: [sample(text.format(number + first), number, mode) for number in range(3)]
        for mode, first in (("a", 0), ("b", 10))
    }
    scorer = CreativityScorer(form, "Write about this: {{premise}}")
    wanted = scorer.wanted(doc, by_mode)
    evidence = Evidence(
        {text: direction(text) for text in wanted.texts},
        {
            chain: [np.full(len(piece.split()), 3, np.float32) for piece in chain.pieces]
            for chain in wanted.chains
        },
        {word: direction(word) for word in wanted.words},
    )
    return scorer, list(Answers(doc, by_mode, evidence).scored_by(scorer))


def plain(name):
    """As the page names what has a mode's or a part's name in it."""
    name = re.sub(r"^ngram_overlap_2_with_.*", "ngram_overlap_2_with_MODE", name)
    return re.sub(r"^quality_.*", "quality_PART", name)


@pytest.mark.parametrize("form", FORMS)
def test_every_metric_of_creative_tasks_stands_there_with_unit_and_direction(form):
    scorer, metrics = answers(form)
    table = described("Creative tasks")
    for name in {metric.metric for metric in metrics}:
        info = scorer.info(name)
        assert table[plain(name)] == (info.unit, BETTER[info.higher_is_better]), name


def test_no_metric_of_creative_tasks_stands_there_that_none_writes():
    written = {plain(metric.metric) for form in FORMS for metric in answers(form)[1]}
    assert set(described("Creative tasks")) == written


def test_what_decides_is_bold():
    bold = set(re.findall(r"^\| \*\*`(\w+)`\*\*", PAGE, flags=re.MULTILINE))
    assert bold == {form.primary for form in FORMS.values()}


def test_every_metric_of_right_or_wrong_stands_there():
    doc = Doc("t", 0, "h", {}, "7")
    samples = [sample(rf"\boxed{{{number}}}", number, "a") for number in range(8)]
    table, known = described("Right or wrong"), set()
    for answer_format in (AnswerFormat(), AnswerFormat(checker="sum")):
        scorer = AccuracyScorer(answer_format)
        written = {metric.metric for metric in scorer.score(doc, samples)}
        known |= {re.sub(r"at_\d+$", "at_K", name) for name in written}
        for name in written - {"correct"}:
            info = scorer.info(name)
            shown = table[re.sub(r"at_\d+$", "at_K", name)]
            assert shown == (info.unit, BETTER[info.higher_is_better])
    assert known == set(table)


def test_the_measures_of_two_modes_are_those_of_the_page_on_divergence():
    """tests/test_divergence_docs.py holds that page against the code."""
    text = (ROOT / "docs" / "divergence.md").read_text()
    for names, where in rows("Two modes beside each other"):
        title = re.search(r"#([a-z-]+)\)", where)[1].replace("-", " ")
        heading = re.search(rf"^## ({title})$", text, flags=re.MULTILINE | re.IGNORECASE)
        section = text[heading.end() :].partition("\n## ")[0]
        lines = [line for line in section.splitlines() if line.startswith("|")]
        assert named(names) == [name for line in lines for name in named(line.split("|")[1])]


def test_effect_sizes_stand_there(tmp_path):
    made = arms_from(tmp_path)(grid(lambda mode, doc, index: (doc + index) % 3 > (mode == "a")))
    effects = primary(compare_modes(made)).effects
    assert [named(row[0])[0] for row in rows("Comparisons")] == list(effects)


def test_what_judges_say_stands_there():
    """Every field of an entry that is a number."""
    ballots = [
        Ballot(doc, *pair, 1.0, 0.5, 10 + doc, 12)
        for doc in range(6)
        for pair in (("a", "b"), ("b", "c"), ("a", "c"))
    ]
    fair = at_equal_length(ballots, "a")
    raw = strengths(ballots, "a")
    found = win_rate(ballots, "a", "b")
    run = JudgedRun(
        preferred=[Preferred("j", "story", "h", "t", "usable", found, fair, 0, False, True)],
        ranked=[Ranked("j", "story", "h", "t", "usable", raw, fair)],
    ).to_dict()
    known = {name for row in rows("Judges") for name in named(row[0])}
    (preference,), (strength,) = run["preferences"], run["strengths"]
    about = {"judge", "rubric", "rubric_hash", "task", "audit", "mode_a", "mode_b", "method"}
    about |= {"p", "p_adjusted", "test", "note"}
    assert {*preference, *strength} - about <= known
