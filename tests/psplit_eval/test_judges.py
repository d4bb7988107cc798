"""Names of judges, and verdicts that were recorded."""

import json

import pytest

from psplit_eval.errors import DataError, UnknownNameError, UsageError
from psplit_eval.inquiry import judge_key
from psplit_eval.judges import JudgeName, RecordedJudge
from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
GOOD = dict.fromkeys(STORY.names, 7.0)


@pytest.mark.parametrize(
    ("text", "kind", "model", "url", "shown"),
    [
        ("openai:m", "openai", "m", "https://api.openai.com/v1", None),
        ("openai:o/m:7b@http://h:1/v1", "openai", "o/m:7b", "http://h:1/v1", None),
        ("openai:me@home@https://h/v1", "openai", "me@home", "https://h/v1", None),
        ("openai:m@http://h/v1?key=secret", "openai", "m", "http://h/v1?key=secret", "http://h/v1"),
        ("hf:some/model", "hf", "some/model", "", None),
        ("hf:./a@b", "hf", "./a@b", "", None),
        ("recorded:a:b.jsonl", "recorded", "a:b.jsonl", "", None),
    ],
)
def test_names(text, kind, model, url, shown):
    name = JudgeName.parse(text)
    assert (name.kind, name.model, name.url) == (kind, model, url)
    assert str(name) == f"{kind}:{model}" + (f"@{shown or url}" if url else "")
    assert name.slug.replace("-", "").replace(".", "").isalnum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected openai:MODEL"),
        ("m", "expected openai:MODEL"),
        ("openai:", "expected openai:MODEL"),
        ("openai: ", "expected openai:MODEL"),
        ("openai:@http://h/v1", "expected openai:MODEL"),
        ("openai:m@http://h/v1@http://h/v1", "expected openai:MODEL"),
        ("openai:m@http://", "expected a URL"),
        ("openai:m@http://u:secret@h/v1", "with a user"),
    ],
)
def test_bad_names_are_one_line(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        JudgeName.parse(text)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_kind_is_guessed_at():
    with pytest.raises(
        UnknownNameError, match=r"did you mean 'openai'\? known are hf, openai, rec"
    ):
        JudgeName.parse("openia:m")


def recorded(folder, rows, name="r.jsonl"):
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def asked(judge, *abouts, choice=False):
    make = STORY.choice_question if choice else STORY.score_question
    texts = ("a", "b") if choice else "a"
    questions = [(about, make("", texts, about=about)) for about in abouts]
    return {key: reply for replies in judge.ask(questions) for key, reply in replies}


def test_recorded_verdicts_are_given_by_name(tmp_path):
    rows = [{"about": "x", "verdict": GOOD}, "", {"about": "y", "verdict": None}]
    judge = RecordedJudge(recorded(tmp_path, rows))
    found = asked(judge, "x", "y", "z")
    assert found["x"].verdict == GOOD
    assert found["y"].unreadable == "recorded without a verdict"
    assert found["z"].unreadable == "not recorded"
    assert judge.name == "recorded:r.jsonl"


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (GOOD | {"creativity": 11}, "creativity 11 is not from 0 to 10"),
        (GOOD | {"creativity": -0.5}, "not from 0 to 10"),
        (GOOD | {"creativity": float("nan")}, "creativity nan is not"),
        ({"creativity": 5}, "recorded with creativity"),
        ({}, "recorded with nothing"),
        (GOOD | {"more": 1}, "recorded with"),
    ],
)
def test_recorded_scores_that_cannot_be_are_failures(verdict, words, tmp_path):
    judge = RecordedJudge(recorded(tmp_path, [{"about": "x", "verdict": verdict}]))
    (reply,) = asked(judge, "x").values()
    assert reply.verdict is None
    assert words in reply.unreadable


def test_recorded_choices_may_be_probabilities(tmp_path):
    rows = [{"about": str(v), "verdict": {"first": v}} for v in (0, 0.25, 1, 2)]
    judge = RecordedJudge(recorded(tmp_path, rows))
    found = asked(judge, *(row["about"] for row in rows), choice=True)
    assert [r.verdict and r.verdict["first"] for r in found.values()] == [0, 0.25, 1, None]


@pytest.mark.parametrize(
    "row",
    [
        *("{", "[]", "5", '{"about": "x"}', '{"verdict": null}', '{"about": "x", "verdict": [7]}'),
        *('{"about": "x", "verdict": {"a": "high"}}', '{"about": "x", "verdict": {"a": null}}'),
    ],
)
def test_a_bad_line_is_named(row, tmp_path):
    with pytest.raises(DataError, match="line 2: ") as caught:
        RecordedJudge(recorded(tmp_path, [{"about": "w", "verdict": None}, row]))
    assert "\n" not in str(caught.value)


def test_two_verdicts_about_one_thing_are_refused_unless_equal(tmp_path):
    row = {"about": "x", "verdict": GOOD}
    RecordedJudge(recorded(tmp_path, [row, row]))
    with pytest.raises(DataError, match="two verdicts about 'x'"):
        RecordedJudge(recorded(tmp_path, [row, {"about": "x", "verdict": None}]))
    with pytest.raises(DataError, match="no such file"):
        RecordedJudge(tmp_path / "none.jsonl")


def test_another_file_of_the_same_name_is_another_judge(tmp_path):
    keys = []
    for verdict in (GOOD, None, GOOD):
        path = recorded(tmp_path, [{"about": "x", "verdict": verdict}])
        keys.append(judge_key(RecordedJudge(path)))
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    "text",
    [
        "openai:m@http://user:SECRETPW@h/v1@http://x",
        "openai:@http://127.0.0.1:1/v1?api_key=SECRETPW",
        "openai:m@http://user:SECRETPW@h/v1",
    ],
)
def test_no_message_shows_what_a_url_hides(text):
    with pytest.raises(UsageError) as caught:
        JudgeName.parse(text)
    assert "SECRETPW" not in str(caught.value)
