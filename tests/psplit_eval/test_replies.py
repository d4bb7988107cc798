"""A judge's words: what says a verdict is read, and what does not is never guessed at."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.replies import FIRST, Choice, Scores, UnreadableError

SCORES = Scores(("creativity", "narrative_flow"), 0, 10, reason=True)
ONE = Scores(("creativity",), 0, 10)
FIVE = Scores(("creativity",), 1, 5)
AB = Choice()

READ = {
    "plain": '{"reason": "Fine.", "creativity": 7, "narrative_flow": 3}',
    "fenced": '```json\n{"creativity": 7, "narrative_flow": 3}\n```',
    "after words": 'My verdict:\n\n{"creativity": 7, "narrative_flow": 3}\n\nHope it helps!',
    "after a thought": '<think>{"creativity": 1} or so</think>{"creativity":7,"narrative_flow":3}',
    "thought without its opening": 'Maybe 9.</think>\n{"creativity": 7, "narrative_flow": 3}',
    "two thoughts": '<think>a</think>{"creativity": 7, "narrative_flow": 3}<think>b</think>',
    "within scores": '{"scores": {"creativity": 7, "narrative_flow": 3}}',
    "within another word": '{"verdict": {"creativity": 7, "narrative_flow": 3}, "reason": "x"}',
    "with reasons": '{"creativity": {"score": 7, "reason": "x"}, "narrative_flow": {"score": 3}}',
    "numbers as text": '{"creativity": "7", "narrative_flow": "3/10"}',
    "out of": '{"creativity": "7 out of 10", "narrative_flow": 3}',
    "floats": '{"creativity": 7.0, "narrative_flow": 3.0}',
    "other capitals": '{"Creativity": 7, "Narrative Flow": 3}',
    "keys with dashes": '{"creativity": 7, "narrative-flow": 3}',
    "said twice alike": '{"creativity":7,"narrative_flow":3} {"narrative_flow":3,"creativity":7}',
    "more keys": '{"creativity": 7, "narrative_flow": 3, "overall": 5, "sure": true}',
    "quoted JSON": r'{"reason": "It says {\"creativity\": 1}","creativity": 7,"narrative_flow": 3}',
    "example first": 'The form is {"reason": "one sentence", "creativity": 0 to 10, '
    '"narrative_flow": 0 to 10}, so {"creativity": 7, "narrative_flow": 3}',
    "braces in words": 'By {criteria}: {"creativity": 7, "narrative_flow": 3}',
    "line break in a string": '{"reason": "one\ntwo", "creativity": 7, "narrative_flow": 3}',
    "comma at the end": '{"creativity": 7, "narrative_flow": 3,\n}',
    "LaTeX": r'{"reason": "by \(x\) and \\frac", "creativity": 7, "narrative_flow": 3}',
    "single quotes": "{'creativity': 7, 'narrative_flow': 3}",
    "no last brace": '{"scores": {"creativity": 7, "narrative_flow": 3}',
    "lines": "Creativity: 7\nNarrative flow: 3",
    "lines with marks": "**Creativity:** 7/10\n**Narrative flow**: 3/10",
    "key as it is": "creativity: 7\nnarrative_flow: 3",
    "bullets": "- creativity = 7 (good)\n- narrative-flow = 3.",
    "numbered": "1. Creativity: 7 out of 10 - vivid\n2. Narrative Flow: 3 out of 10",
    "headings": "## Creativity: 7\nVivid.\n## Narrative flow: 3\nIt jumps.",
    "table": "| creativity | 7 |\n| narrative flow | 3 |",
    "one line": "My scores: creativity: 7, narrative flow: 3",
    "score in the name": "Creativity score: 7\nNarrative flow score: 3",
    "no quotes": "{creativity: 7, narrative_flow: 3}",
    "other digits": "creativity: ٧\nnarrative flow: 3",
}


@pytest.mark.parametrize("said", READ.values(), ids=READ)
def test_scores_are_read(said):
    assert SCORES.read(said) == {"creativity": 7.0, "narrative_flow": 3.0}


@pytest.mark.parametrize(
    ("form", "said", "why"),
    [
        (ONE, "", "no score for creativity"),
        (ONE, "I cannot judge this.", "no score"),
        (ONE, "7", "no score"),
        (ONE, '{"reason": "x"}', "no score for creativity"),
        (SCORES, '{"creativity": 7}', "no score for narrative_flow"),
        (ONE, '{"creativity": 11}', "creativity 11 is not from 0 to 10"),
        (ONE, '{"creativity": -1}', "not from 0 to 10"),
        (FIVE, '{"creativity": 0}', "0 is not from 1 to 5"),
        (ONE, "creativity: 70%", "no score"),
        (ONE, "creativity: 11/10", "11 is not from"),
        (ONE, '{"creativity": null}', "no number"),
        (ONE, '{"creativity": true}', "no number"),
        (ONE, '{"creativity": NaN}', "no number"),
        (ONE, '{"creativity": Infinity}', "no number"),
        (ONE, '{"creativity": 1e999}', "no number"),
        (ONE, '{"creativity": ' + "9" * 400 + "}", "no number"),
        (ONE, '{"creativity": ' + "9" * 5000 + "}", "broken JSON"),
        (ONE, '{"creativity": "high"}', "'high' is no number"),
        (ONE, '{"creativity": "7-8"}', "no number"),
        (ONE, '{"creativity": "7/5"}', "no number"),
        (ONE, '{"creativity": [7]}', "no number"),
        (ONE, '{"creativity": {"low": 7}}', "no number"),
        (ONE, '{"creativity": 7} no: {"creativity": 8}', "2 different verdicts"),
        (ONE, '{"creativity": 7, "creativity": 8}', "broken JSON"),
        (ONE, '{"creativity": 7, "Creativity": 8}', "one key twice"),
        (ONE, '{"scores": {"creativity": 7}, "creativity": 8}', "2 different"),
        (ONE, '{"creativity": 7, "reason": "cut', "broken JSON"),
        (ONE, '{"creativity": 1', "broken JSON"),  # of 10, perhaps
        (ONE, "creativity: 7\ncreativity: 8", "2 different scores"),
        (ONE, "creativity: 7 or 8", "no score"),
        (ONE, "creativity: 7-8", "no score"),
        (ONE, "creativity: 7 to 8", "no score"),
        (ONE, "creativity: 7,5", "no score"),
        (ONE, "creativity: 7.5.1", "no score"),
        (ONE, "creativity: 4 out of 5", "no number"),
        (ONE, "creativity: 4/5", "no number"),
        (ONE, "creativity: 7/105x", "no score"),
        (ONE, "creativity: 7x", "no score"),
        (ONE, "creativity: 4 of 5", "no score"),
        (ONE, "originality: 7", "no score"),
        (ONE, "x" * 300_000 + '{"creativity": 7}', "300,017 characters"),
        (Scores(("flow",), 0, 10), "narrative flow: 7", "no score for flow"),
    ],
)
def test_what_says_no_single_score_is_unreadable(form, said, why):
    with pytest.raises(UnreadableError, match=why.replace("(", r"\(")):
        form.read(said)


@pytest.mark.parametrize(
    "said",
    [
        "The text claims creativity: 10.",
        "<think>creativity: 10",
        '<think>I would say {"creativity": 10} but',
        '{"reason": "The author demands creativity: 10, so',
        '{"reason": "creativity: 10. Says who?"}',
        '{"reason": "It says {"creativity": 10} to me", "creativity": 2}',
        '{"reason": "It says {"creativity": 10}", "creativity":',
    ],
)
def test_a_verdict_that_is_only_quoted_or_thought_is_none(said):
    with pytest.raises(UnreadableError):
        ONE.read(said)


@pytest.mark.parametrize("name", ["scores", "score", "flow", "a__b", "flow_2"])
def test_a_dimension_of_any_name_is_read_from_its_own_json(name):
    form = Scores((name, "other"), -5, 5)
    assert form.read(json.dumps({name: -5, "other": 5})) == {name: -5, "other": 5}


CHOSEN = {
    '{"better": "A"}': 1,
    '{"reason": "A is better at plot.", "better": "B"}': 0,
    '```json\n{"better": "tie"}\n```': 0.5,
    '{"better": "a"}': 1,
    '{"Better": "(B)."}': 0,
    "{'better': 'B'}": 0,
    "A": 1,
    "**B**": 0,
    "(A).": 1,
    "tie": 0.5,
    "It is a tie.": 0.5,
    "B is better.": 0,
    "Therefore, **A** is the better story.": 1,
    "B is clearly better than A.": 0,
    "I prefer A to B.": 1,
    "Verdict: B": 0,
    "Winner:\n\nA": 1,
    "The better text is B.": 0,
    "A is better in its plot. All in all, B is the better story.": 0,
    "Neither A nor B is better.": 0.5,
    "Both are equally good.": 0.5,
    "<think>B is better.</think>A is better.": 1,
    "I don't think that A is better. B is better.": 0,
}


@pytest.mark.parametrize(("said", "value"), CHOSEN.items())
def test_choices_are_read(said, value):
    assert AB.read(said) == {FIRST: value}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "C",
        "A and B",
        '{"better": "C"}',
        '{"better": null}',
        '{"better": "A or B"}',
        '{"better": "A"} {"better": "B"}',
        '{"reason": "A is better"}',
        '{"reason": "A is better, since',
        "A is not better than B.",
        "A is no better than B.",
        "A is far from better.",
        "I cannot say that A is better.",
        "I do not for a moment think that A is better.",
        "If plot counts, A is better.",
        "The question is whether A is better.",
        "Which is better, A or B?",
        "The choice between A and B is hard.",
        "I prefer neither A nor B.",
        "One of them should be better. A story needs an end.",
        "The man wears a tie.",
        "A is better written.",
        "B should be preferred to A.",
        "<think>A is better.",
    ],
)
def test_what_chooses_nothing_is_unreadable(said):
    with pytest.raises(UnreadableError):
        AB.read(said)


def test_labels_may_be_of_several_words():
    form = Choice(("Output (a)", "Output (b)"))
    assert form.read("Therefore, output (b) is better.") == {FIRST: 0}
    assert form.read("Output (a)") == {FIRST: 1}
    with pytest.raises(UnreadableError):
        form.read("Neither output (a) nor output (b) is better than it should be, it seems")


ODD = {("natural-7", "Falcon", "CoT", False), ("natural-74", "Falcon", "CoT", False)}
"""Where the words say the other text than the authors' parser took: all end with 'Therefore,
Output (b) is better'; it takes the first such sentence, or none."""


def test_judges_words_of_llmbar_are_read_as_its_authors_read_them(real_rows):
    form = Choice(("Output (a)", "Output (b)"))
    rows = list(real_rows("llmbar/judge_completions_natural.jsonl.gz"))
    other = set()
    for row in rows:
        first = form.read(row["completion"])[FIRST] == 1.0
        if ("1" if first != row["swapped"] else "2") != row["parsed_winner"]:
            other.add(tuple(row[key] for key in ("id", "evaluator", "strategy", "swapped")))
    assert len(rows) == 800
    assert other == ODD


VALUES = st.integers(0, 10)
WORDS = st.text(st.characters(exclude_characters="{<", exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=50)
@given(VALUES, VALUES, st.text(max_size=80), WORDS, st.booleans(), st.sampled_from([None, 2]))
def test_any_verdict_as_json_reads_back_in_any_decoration(a, b, reason, around, ascii_only, indent):
    verdict = {"reason": reason, "creativity": a, "narrative_flow": b}
    said = json.dumps(verdict, ensure_ascii=ascii_only, indent=indent)
    if "think>" in reason:
        return
    for text in (said, f"```json\n{said}\n```", f"<think>{around}</think>{said}", around + said):
        assert SCORES.read(text) == {"creativity": a, "narrative_flow": b}


PIECES = st.sampled_from(
    [
        *('{"creativity": 7}', '{"', "{", "}", '"', "creativity", ": 7", "/10", "<think>"),
        *("</think>", "better", " A", " B ", " is ", "not ", "tie", "\n", "[", "\\", "9" * 30, ","),
        *("neither", "whether", "٣", "\ud800", "\u202e", "null", "NaN", "'", " or "),
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_no_text_raises_anything_else_and_no_verdict_leaves_the_scale(text):
    for form, low, high in ((SCORES, 0, 10), (FIVE, 1, 5), (AB, 0, 1)):
        try:
            verdict = form.read(text)
        except UnreadableError:
            continue
        assert tuple(verdict) == form.dimensions
        assert all(low <= value <= high for value in verdict.values())


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "{",
            '{"a":',
            '{"a":[',
            "<think>",
            "</think>",
            "<think></think>",
            "\n",
            " ",
            "creativity ",
        ),
        *("creativity: 7 ", "A is better ", "better ", "better  not ", "A ", "7", "prefer", ": "),
        *("not ", "verdict!", ",", ", ", "\\", "'", '{"creativity": 7}', "if ", "-", "_", "| "),
    ],
)
def test_long_answers_are_read_in_no_time(piece):
    for text in (piece * (100_000 // len(piece)), "better:" + piece * (50_000 // len(piece))):
        for form in (SCORES, AB):
            started = time.process_time()
            with suppress(UnreadableError):
                form.read(text)
            assert time.process_time() - started < 2.0


def test_schema_and_example_say_the_same():
    schema = SCORES.schema()
    assert schema["required"] == ["reason", "creativity", "narrative_flow"]
    assert schema["properties"]["creativity"] == {"type": "integer", "minimum": 0, "maximum": 10}
    assert not schema["additionalProperties"]
    assert [name for name in schema["required"] if f'"{name}"' in SCORES.example()] == schema[
        "required"
    ]
    assert AB.schema()["properties"]["better"]["enum"] == ["A", "B", "tie"]
    assert "reason" not in str(AB.schema())


@pytest.mark.parametrize("form", [ONE, FIVE, AB, Scores(("x",), -2, 12)])
def test_every_answer_reads_as_its_value_and_none_begins_another(form):
    for dimension in form.dimensions:
        stem, endings = form.answers(dimension)
        assert [form.read(stem + ending)[dimension] for ending in endings] == list(endings.values())
        assert not [(a, b) for a in endings for b in endings if a != b and b.startswith(a)]
