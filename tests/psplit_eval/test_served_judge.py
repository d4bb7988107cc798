"""A judge behind a server: structured where it can be, asked once more, never guessed, all paid."""

import json
import threading

import pytest
from judgeserver import GOOD, SEVENS, STORY, Server, said, way
from serving import free_port

from psplit_eval.errors import InfrastructureError, UsageError
from psplit_eval.inquiry import Inquiry
from psplit_eval.judges import JudgeName
from psplit_eval.ledger import Ledger
from psplit_eval.served_judge import ServedJudge, ServedOptions


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def judge_at(server, **options):
    url = server if isinstance(server, str) else server.url
    options = {"scale": 0.005, "timeout": 30.0, **options}
    return ServedJudge(JudgeName.parse(f"openai:m@{url}"), ServedOptions(**options))


def replies(judge, docs=3):
    questions = [(i, STORY.score_question("A door.", f"Text {i}")) for i in range(docs)]
    found = [item for some in judge.ask(questions) for item in some]
    assert sorted(key for key, _ in found) == list(range(docs))
    return [reply for _, reply in sorted(found, key=lambda item: item[0])]


LADDER = ["json_schema", "json_object with schema", "json_object", "words"]


@pytest.mark.parametrize("status", [400, 422, 500, 501])
@pytest.mark.parametrize("taken", LADDER)
def test_the_first_form_that_a_server_takes_is_used_for_all(taken, status):
    refusal = status, {"error": {"message": "response_format is not supported"}}
    with Server(takes={taken}, refusal=refusal) as server:
        judge = judge_at(server)
        found = replies(judge, 5)
    assert [reply.verdict for reply in found] == [SEVENS] * 5
    assert {reply.tries for reply in found} == {1}
    answered = [body for body in server.questions if way(body) == taken]
    assert len(answered) == 5  # the question by which it was found out is not asked again
    assert len(server.questions) <= 5 + 2 * LADDER.index(taken)
    assert judge.describe()["structured"] == taken


def test_the_schema_is_the_rubrics():
    with Server() as server:
        replies(judge_at(server), 1)
    (body,) = server.questions
    form = body["response_format"]["json_schema"]
    assert form["strict"]
    assert form["schema"] == STORY.scores().schema()
    assert (body["temperature"], body["max_tokens"]) == (0.0, 2048)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_a_form_that_is_taken_but_not_kept_to_is_left_and_its_tokens_count():
    def say(body, number):
        return said("I like it." if way(body) == "json_schema" else GOOD)

    with Server(say) as server:
        found = replies(judge_at(server), 3)
    assert [reply.verdict for reply in found] == [SEVENS] * 3
    assert sorted(reply.prompt_tokens for reply in found) == [100, 100, 200]
    assert sorted(reply.tries for reply in found) == [1, 1, 2]
    assert len(server.questions) == 4


def test_every_answer_of_a_server_that_never_says_a_verdict_counts():
    with Server(lambda body, number: said("I like it.")) as server:
        found = replies(judge_at(server), 3)
    assert {reply.verdict for reply in found} == {None}
    assert {reply.error for reply in found} == {None}
    assert sum(reply.tries for reply in found) == len(server.questions) == 3 + 2 + 2 + 2
    assert sum(reply.prompt_tokens for reply in found) == 900
    assert all("no score for creativity" in reply.unreadable for reply in found)


def test_no_trouble_of_the_moment_costs_the_structured_form():
    script = [None, "429", "cut", "429-after", "500"]
    with Server(script=script) as server:
        judge = judge_at(server)
        found = replies(judge, 3)
    assert judge.describe()["structured"] == "json_schema"
    assert [reply.verdict for reply in found] == [SEVENS] * 3


@pytest.mark.parametrize(
    "fault", ["429", "429-after", "500", "cut", "cut-body", "html", "no-choices"]
)
def test_a_fault_is_survived_and_paid_once(fault):
    with Server(script=[None, None, fault, fault]) as server:
        found = replies(judge_at(server), 4)
    assert [(r.verdict, r.tries, r.prompt_tokens) for r in found] == [(SEVENS, 1, 100)] * 4


UNREADABLE = {
    "words": said("It is good."),
    "nothing": said(""),
    "null": said(None),
    "refusal": said(None, refusal="I cannot judge that."),
    "filtered": said(None, "content_filter"),
    "tool": said(None, "tool_calls", tool_calls=[{}]),
    "out of range": said(GOOD.replace("7", "11")),
    "one missing": said('{"creativity": 7}'),
    "cut": said('{"reason": "It is', "length"),
    "thought only": said("<think>It is", "length"),
    "odd finish": said("x", "tired"),
}


@pytest.mark.parametrize("first", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_verdict_is_asked_for_once_more(first):
    with Server(lambda body, number: said(GOOD) if number != 2 else first) as server:
        found = replies(judge_at(server, concurrency=1))
    assert [reply.verdict for reply in found] == [SEVENS] * 3
    assert [reply.tries for reply in found] == [1, 2, 1]
    assert [reply.prompt_tokens for reply in found] == [100, 200, 100]
    assert [reply.completion_tokens for reply in found] == [10, 20, 10]
    again = server.questions[2]["messages"]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert "cannot be used" in again[-1]["content"]
    assert way(server.questions[2]) == "json_schema"


@pytest.mark.parametrize("first", UNREADABLE.values(), ids=UNREADABLE)
def test_a_verdict_that_is_unreadable_twice_is_a_failure_with_a_reason(first):
    with Server(lambda body, number: said(GOOD) if number == 1 else first) as server:
        found = replies(judge_at(server, concurrency=1), 2)
    assert found[1].verdict is None
    assert found[1].error is None
    assert found[1].unreadable
    assert (found[1].tries, found[1].prompt_tokens, found[1].completion_tokens) == (2, 200, 20)
    assert len(server.questions) == 3


def test_reasons_say_what_was_wrong():
    for kind, words in [
        ("out of range", "creativity 11 is not from 0 to 10"),
        ("one missing", "no score for originality"),
        ("cut", "cut by the token limit: give more --max-tokens"),
        ("thought only", "cut by the token limit: give more --max-tokens"),
    ]:
        with Server(lambda b, n, kind=kind: said(GOOD) if n == 1 else UNREADABLE[kind]) as server:
            assert words in replies(judge_at(server, concurrency=1), 2)[1].unreadable


def test_a_server_that_tells_no_usage_leaves_it_open():
    with Server(lambda body, number: said(GOOD, usage=None)) as server:
        found = replies(judge_at(server))
    assert {(reply.prompt_tokens, reply.completion_tokens) for reply in found} == {(None, None)}


def test_thoughts_are_no_verdicts():
    text = f'<think>{{"creativity": 1}} or 2</think>{GOOD}'
    with Server(lambda body, number: said(text)) as server:
        assert replies(judge_at(server), 1)[0].verdict == SEVENS
    with Server(lambda b, n: said(GOOD, reasoning_content="Give 3.")) as server:
        assert replies(judge_at(server), 1)[0].verdict == SEVENS


def test_a_question_that_is_refused_is_an_error_and_its_neighbours_are_not():
    def say(body, number):
        too_long = (400, {"error": {"message": "maximum context length is 8"}})
        return too_long if "Text 1" in body["messages"][1]["content"] else said(GOOD)

    with Server(say) as server:
        found = replies(judge_at(server), 4)
    assert [reply.verdict is None for reply in found] == [False, True, False, False]
    assert "maximum context" in found[1].error
    assert found[1].unreadable is None


@pytest.mark.parametrize(
    ("model", "key", "words"),
    [("other", None, "'other': .* does not have it"), ("m", "right", "set OPENAI_API_KEY")],
)
def test_what_would_fail_every_question_is_one_line(model, key, words):
    with Server(key=key) as server:
        judge = ServedJudge(JudgeName.parse(f"openai:{model}@{server.url}"), ServedOptions())
        with pytest.raises(UsageError, match=words) as caught:
            replies(judge)
    assert "\n" not in str(caught.value)
    assert server.questions == []


def test_a_server_that_is_not_there_is_one_line():
    with pytest.raises(InfrastructureError, match="no answer from") as caught:
        replies(judge_at(f"http://127.0.0.1:{free_port()}/v1"))
    assert "\n" not in str(caught.value)


def test_a_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    with Server(key="sk-secret-123") as server:
        judge = judge_at(server)
        assert replies(judge, 1)[0].verdict == SEVENS
    assert "secret" not in json.dumps(judge.describe()) + judge.name
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-wrong")
    with Server(key="other") as server, pytest.raises(UsageError, match="another key") as caught:
        replies(judge_at(server))
    assert "secret" not in str(caught.value)


def test_so_many_are_in_flight_and_no_more():
    with Server(lambda body, number: said(GOOD), takes=None) as server:
        slow = server.said
        server.judge = lambda body: (threading.Event().wait(0.05), slow(body))[1]
        replies(judge_at(server, concurrency=3), 12)
    assert server.busiest == 3


def test_nothing_is_sent_for_nothing():
    with Server() as server:
        assert list(judge_at(server).ask([])) == []
    assert server.seen == []


def test_what_was_done_is_kept_when_the_server_goes_and_only_the_rest_is_asked(tmp_path):
    items = [(i, STORY.score_question("A door.", f"Text {i}")) for i in range(30)]
    port = free_port()
    with Ledger(tmp_path / "judgements.sqlite") as ledger:
        server = Server(port=port)
        gone = threading.Event()

        def say(body, number):
            if number > 12:
                gone.set()
                server.stall()
            return said(GOOD)

        server.say = say
        closing = threading.Thread(target=lambda: (gone.wait(20), server.__exit__()))
        with server:
            closing.start()
            judge = judge_at(server.url, concurrency=2, retries=2)
            with pytest.raises(InfrastructureError, match="what was done is kept"):
                for _ in Inquiry(judge, ledger, STORY).settle(items):
                    pass
            closing.join()
        done = {
            c.call_hash
            for c in ledger.answered(q.content_hash(k) for q, k in hashes(items, judge)).values()
        }
        assert 10 <= len(done) < 30  # how many more get through before it is gone is chance
        with Server(port=port) as again:
            inquiry = Inquiry(judge_at(again), ledger, STORY)
            found = [call for some in inquiry.settle(items) for _, call in some]
        assert len(found) == 30
        assert all(call.verdict == SEVENS for call in found)
        assert len(again.questions) == 30 - len(done)


def hashes(items, judge):
    from psplit_eval.inquiry import judge_key

    return [(question, judge_key(judge)) for _, question in items]


def test_most_tokens_are_more_than_were_ever_taken():
    def say(body, number):
        text = " ".join(message["content"] for message in body["messages"])
        usage = {"prompt_tokens": len(text.encode()) + 100, "completion_tokens": 64}
        return said("words " * 100, usage=usage)

    with Server(say) as server:
        judge = judge_at(server, max_tokens=64, concurrency=1)
        questions = [STORY.score_question("P", "ö" * n) for n in (10, 300)]
        most = []

        def asked():
            for number, question in enumerate(questions):
                most.append(judge.most_tokens(question))
                yield number, question

        found = dict(item for some in judge.ask(asked()) for item in some)
    for number, limit in enumerate(most):
        taken = found[number].prompt_tokens, found[number].completion_tokens
        assert all(0 < t <= m for t, m in zip(taken, limit, strict=True))
