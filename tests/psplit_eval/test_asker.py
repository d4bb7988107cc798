"""What is found out before sampling, and what would go wrong silently."""

import pytest
from faultserver import FaultServer
from serving import PROMPT, asked_for, backend_of, drawn, free_port, questions, quiet, texts

from psplit_eval.errors import InfrastructureError, TemplateError, UsageError
from psplit_eval.thinking import Thinking


def refusal(message, status=400, **more):
    return status, {"error": {"message": message, "param": None, **more}}


def prepared(server, requests, **options):
    """(texts, notices, what the manifest says) of a run."""
    said = []
    backend = backend_of(server.url, say=said.append, **options)
    results = dict(r for batch in backend.run(backend.groups(requests), quiet) for r in batch)
    return texts({r.key: c for r, c in results.items()}), said, backend.describe()


def refused(kind, requests, *servers):
    with pytest.raises(kind) as caught:
        drawn(requests, *servers)
    return str(caught.value)


def test_what_a_server_does_not_take_is_found_out_once_and_said():
    refuses = {
        "top_k": refusal("Unrecognized request argument supplied: top_k"),
        "min_p": refusal("Extra inputs are not permitted", param="min_p"),
        "return_token_ids": (422, {"detail": [{"loc": ["body", "return_token_ids"], "msg": "no"}]}),
    }
    with FaultServer(refuses=refuses) as server:
        found, said, manifest = prepared(server, asked_for(20, 2, temperature=0.6, top_k=20))
        bodies = questions(server)
        assert len(server.seen) == 40 + 1 + 3 + 4  # top_k is tried in two ways
    assert len(found) == 40
    assert not any(set(refuses) & set(body) for body in bodies)
    assert manifest["left_out"] == ["min_p", "return_token_ids", "top_k"]
    assert [line.split(": ")[0].split()[-1] for line in said] == [
        "top_k",
        "min_p",
        "return_token_ids",
    ]
    assert "without top_k 20" in said[0]
    assert "nothing is lost" in said[1]


@pytest.mark.parametrize(
    ("judge", "sent"),
    [
        (lambda body: refusal("top_k must be -1, or at least 1") if not body["top_k"] else None,
         {"top_k": -1}),
        (lambda body: refusal("top_logprobs at most 5") if body["top_logprobs"] > 5 else None,
         {"top_logprobs": 5}),
        (lambda body: refusal("max_tokens: use max_completion_tokens") if "max_tokens" in body
         else None, {"max_completion_tokens": 256}),
        (lambda body: refusal("logprobs is not supported", 500) if "logprobs" in body else None,
         {"seed": 1}),
        (lambda body: refusal("bad request") if "repeat_penalty" in body else None,
         {"min_p": 0.0, "top_k": 0, "repetition_penalty": 1.0}),
        (lambda body: refusal("no", 422) if {"seed", "stop"} & set(body) else None,
         {"min_p": 0.0, "top_k": 0, "top_logprobs": 20}),
    ],
)  # fmt: skip
def test_other_ways_of_asking_are_tried(judge, sent):
    with FaultServer(judge=judge) as server:
        found, *_ = prepared(server, asked_for(6))
        bodies = questions(server)
    assert len(found) == len(bodies) == 6
    for name, value in sent.items():
        assert all(name in body for body in bodies), bodies[0]
        assert name == "seed" or bodies[0][name] == value


def test_a_refusal_that_is_about_nothing_known_is_one_line_about_the_model():
    with FaultServer(judge=lambda body: refusal("go away")) as server:
        with pytest.raises(UsageError, match=r"refuses a plain question.*go away"):
            drawn(asked_for(), server)
        assert len(server.seen) < 12


def test_a_server_that_ignores_seeds_is_refused_and_nothing_is_drawn():
    with FaultServer(ignores_seed=True) as server:
        with pytest.raises(UsageError, match=r"same answer for every seed.*--samples 1"):
            drawn(asked_for(4, 2), server)
        assert questions(server) == []
        assert len(server.seen) == 4
        assert len(texts(drawn(asked_for(4, 1), server))) == 4
        assert len(texts(drawn(asked_for(4, 2, temperature=0.0), server))) == 8


def test_of_several_servers_one_that_ignores_seeds_is_found_out():
    with FaultServer() as one, FaultServer(ignores_seed=True) as two:
        found = refused(UsageError, asked_for(4, 2), one, two)
    assert found.startswith(f"{two.url} gives the same answer")


def test_a_server_that_comes_later_is_tried_out_before_it_is_asked():
    """It is not there at the start, so what it does with seeds is found out when it comes."""
    port = free_port()
    later = FaultServer(ignores_seed=True, port=port)

    def judge(body):
        if "Question" in body["messages"][-1]["content"] and not later.url:
            later.__enter__()

    with FaultServer(judge=judge, takes=0.01) as server:
        urls = (f"http://127.0.0.1:{port}/v1", server.url)
        try:
            with pytest.raises(UsageError, match="same answer for every seed"):
                drawn(asked_for(600, 2), *urls, concurrency=2)
        finally:
            later.__exit__()
    assert questions(later) == []


def test_a_server_of_several_that_always_fails_is_left_out():
    said = []
    with FaultServer(script=["500"] * 999) as bad, FaultServer() as good:
        found = drawn(asked_for(40, 2), bad, good, concurrency=1, say=said.append)
    assert len(texts(found)) == 80
    assert f"{bad.url} is left out" in said[0]


def test_a_server_that_always_fails_is_given_up():
    with FaultServer(script=["500"] * 999) as server:
        with pytest.raises(InfrastructureError, match="no server answers any more"):
            drawn(asked_for(), server, concurrency=1, retries=99, scale=0.001)
        assert len(server.seen) <= 8 + 10


def test_a_server_that_takes_no_high_temperature_is_asked_at_a_lower_one():
    def judge(body):
        return refusal("temperature is at most 1") if body["temperature"] > 1 else None

    with FaultServer(judge=judge) as server:
        found, said, manifest = prepared(server, asked_for(4, 2, temperature=0.6))
        assert {body["temperature"] for body in questions(server)} == {0.6}
        assert len(server.seen) == 8 + 1 + 3 + 1
    assert (len(found), said) == (8, [])
    assert "left_out" not in manifest


def test_a_server_that_does_not_repeat_itself_is_said():
    with FaultServer(repeats=False) as server:
        _, said, _ = prepared(server, asked_for(2, 2))
    assert [line for line in said if "a repeated run will differ" in line] == said
    with FaultServer(refuses={"seed": refusal("seed is not supported")}) as server:
        _, said, manifest = prepared(server, asked_for(2, 2))
    assert "without seeds" in " ".join(said)
    assert manifest["left_out"] == ["seed"]


def test_a_template_that_drops_the_system_prompt_is_refused():
    with FaultServer(drops_system=True) as server:
        with pytest.raises(TemplateError, match=r"mode 'mode1'.*drops its system prompt"):
            drawn(asked_for(modes=(None, PROMPT)), server)
        assert questions(server) == []


def test_a_template_that_knows_no_system_role_is_refused():
    def judge(body):
        return refusal("no system role") if len(body["messages"]) > 1 else None

    with FaultServer(judge=judge) as server:
        found = refused(TemplateError, asked_for(modes=(None, PROMPT)), server)
    assert "refuses its system prompt (status 400: no system role)" in found


def test_a_wrong_model_is_said_with_those_that_there_are():
    with FaultServer(models=("small", "big")) as server:
        found = refused(UsageError, asked_for(), server)
    assert found.startswith("--model 'm'")
    assert "lists: small, big" in found
    with FaultServer() as server:
        assert "server's own log" in refused(UsageError, asked_for(), f"{server.url}/v1")
        bare = server.url.removesuffix("/v1")
        assert f"try {server.url}" in refused(UsageError, asked_for(), bare)


def test_a_model_that_vanishes_ends_the_run(monkeypatch):
    with FaultServer(script=[None] * 6 + ["404"] * 99) as server:
        with pytest.raises(UsageError, match="404"):
            drawn(asked_for(99), server, concurrency=1)
        assert len(server.seen) == 7


def test_faults_before_sampling_are_survived():
    script = ["500", "429", "cut", None, "html", "null", None, "stall", None, "no-choices", None]
    with FaultServer(script=script) as server:
        found = drawn(asked_for(4, 2, (None, PROMPT)), server, timeout=1.0)
    assert len(texts(found)) == 16


def test_a_server_that_only_stalls_is_given_up():
    with FaultServer(script=["stall"] * 99) as server:
        with pytest.raises(InfrastructureError, match=r"no answer in 0.1 s"):
            drawn(asked_for(), server, timeout=0.1, retries=2)
        assert len(server.seen) == 3


@pytest.mark.parametrize("kind", ["field", "tags", "open"])
@pytest.mark.parametrize("switch", [None, True])
def test_a_thinking_model_is_not_cut_in_its_thought(kind, switch):
    """The stop string is in every thought; the server would stop there if it were told."""
    with FaultServer(thinks=kind) as server:
        requests = asked_for(8, until=("\n",))
        found = drawn(requests, server, thinking=Thinking(switch))
        bodies = questions(server)
    assert all(result.thought in ("Hm.", "Let me see.") for result in found.values())
    told = [body.get("chat_template_kwargs") for body in bodies]
    assert told == [{"enable_thinking": True} if switch else None] * 8
    if switch or kind != "open":
        assert not any("stop" in body for body in bodies)
