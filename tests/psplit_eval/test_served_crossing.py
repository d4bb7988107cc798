"""Cross-scoring by servers, against the full distributions of the model behind them."""

import dataclasses

import numpy as np
import pytest
from conftest import CHATML
from crossing_cases import SYSTEM, TEXTS, cases, check_bounds, check_equal, exactly
from faultserver import FaultServer
from promptserver import PromptScores
from serving import backend_of, quiet

from psplit_eval.backends import CrossScoring
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import InfrastructureError, UsageError
from psplit_eval.hf import HFBackend


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def hf(tiny):
    return HFBackend(resolve_checkpoint(str(tiny)), device="cpu")


@pytest.fixture(scope="module")
def exact(hf):
    return exactly(hf.model, cases(hf))


@pytest.fixture(scope="module")
def known(hf, exact):
    """Cases as a server gets them, with the tokens that the responses were drawn as."""
    backend = backend_of("http://localhost:1/v1")
    drawn = [case.responses for case in cases(hf)]
    return [
        dataclasses.replace(case, responses=ids)
        for case, ids in zip(cases(backend), drawn, strict=True)
    ]


@pytest.fixture(scope="module")
def unknown(known):
    return [dataclasses.replace(case, responses=[()] * len(case.texts)) for case in known]


def scored(asked, *servers, **options):
    return dict(backend_of(*(s.url for s in servers), **options).cross_score(asked, quiet))


@pytest.mark.parametrize("ids", ["known", "unknown"])
def test_estimates_are_bounds_of_what_the_model_says(ids, tiny, exact, request):
    asked, said, seen = request.getfixturevalue(ids), [], []
    with FaultServer(judge=PromptScores(tiny)) as server:
        backend = backend_of(server.url, say=said.append)
        found = dict(backend.cross_score(asked, lambda *new: seen.append(new)))
    assert isinstance(backend, CrossScoring)
    assert not backend.exact
    assert sorted(found) == sorted(exact)
    for number, wanted in exact.items():
        check_bounds(found[number], wanted)
    assert said == []
    assert sum(responses for _, responses in seen) == sum(len(c.texts) for c in asked[:-1])


def test_they_are_exact_where_all_tokens_are_listed(tiny, known, exact):
    scores = PromptScores(tiny, most=10**6)
    size = scores.model.config.vocab_size
    with FaultServer(judge=scores) as server:
        found = scored(known, server, top_logprobs=size)
    for number, wanted in exact.items():
        check_equal(found[number], wanted)


def test_every_distinct_response_is_one_request_a_policy_and_every_prompt_another(tiny, known):
    with FaultServer(judge=PromptScores(tiny)) as server:
        scored(known, server)
        bodies = [seen.body for seen in server.seen]
    questions = [body for body in bodies if "prompt_logprobs" in body]
    distinct = sum(len({text for text in texts if text}) for texts in TEXTS.values())
    assert len(questions) == distinct * len(SYSTEM)
    for body in questions:
        assert body["messages"][-1]["role"] == "assistant"
        assert (body["prompt_logprobs"], body["max_tokens"]) == (20, 1)
        assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
        assert body["return_token_ids"]
        assert not {"logprobs", "top_logprobs", "stop"} & set(body)
    plain = [body for body in bodies if body not in questions]
    asked = [body for body in plain if str(body["messages"][-1]["content"]) in TEXTS]
    assert len(asked) == len(SYSTEM) * sum(any(texts) for texts in TEXTS.values())


def test_faults_are_survived_and_change_nothing(tiny, known, exact):
    kinds = ("429", "429-after", "500", "cut", "html", "broken-json")
    scores = PromptScores(tiny)
    with FaultServer(judge=scores, rate=0.2, seed=1, kinds=kinds) as server:
        found = scored(known, server)
        assert server.faults > 3
    for number, wanted in exact.items():
        check_bounds(found[number], wanted)


def test_an_end_token_has_no_column(tiny, known, exact):
    ended = [
        dataclasses.replace(case, responses=[(*ids, 2) for ids in case.responses]) for case in known
    ]
    said = []
    with FaultServer(judge=PromptScores(tiny)) as server:
        found = scored(ended, server, say=said.append)
    for number, wanted in exact.items():
        check_bounds(found[number], wanted)
    assert said == []


def test_responses_drawn_as_other_tokens_are_counted(tiny, known, exact):
    first = known[0]
    other = [tuple(reversed(ids)) for ids in first.responses]
    said = []
    with FaultServer(judge=PromptScores(tiny)) as server:
        ((_, found),) = scored(
            [dataclasses.replace(first, responses=other)], server, say=said.append
        ).items()
    check_bounds(found, exact[0])
    assert said[0].startswith("2 responses were drawn as other tokens")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"omits": ("prompt_logprobs",)}, "an answer without prompt_logprobs"),
        ({"omits": ("prompt_token_ids",)}, "an answer without prompt_token_ids"),
        ({"most": 5}, "greater than max allowed: 5"),
    ],
)
def test_a_server_that_does_not_score_is_one_clear_line(options, words, tiny, known):
    with (
        FaultServer(judge=PromptScores(tiny, **options)) as server,
        pytest.raises(UsageError, match="sample it with --backend hf") as raised,
    ):
        scored(known, server)
    assert words in str(raised.value)
    assert server.url in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "refusal",
    [
        (422, {"detail": [{"loc": ["body", "prompt_logprobs"], "msg": "Extra inputs are not …"}]}),
        (
            400,
            {"error": {"message": "Unrecognized request argument supplied: add_generation_prompt"}},
        ),
        (400, {"error": {"message": "continue_final_message: not supported"}}),
    ],
)
def test_a_server_that_does_not_know_the_parameters_is_the_same_line(refusal, known):
    refuses = {"prompt_logprobs": refusal}
    changed = {"prompt_token_ids": [1, 2, 3]}

    def judge(body):
        if "prompt_logprobs" in body:
            return None
        message = {"role": "assistant", "content": "a"}
        return 200, {"choices": [{"message": message, "finish_reason": "length"}], **changed}

    with (
        FaultServer(judge=judge, refuses=refuses) as server,
        pytest.raises(UsageError, match="does not score given responses"),
    ):
        scored(known, server)


def test_a_server_that_is_not_there_is_an_infrastructure_error(known):
    with pytest.raises(InfrastructureError):
        dict(backend_of("http://127.0.0.1:1/v1").cross_score(known, quiet))


def undefined(found, case=0):
    return [bool(np.isnan(rows).all()) and rows.size > 0 for rows in found[case].rows]


@pytest.mark.parametrize("ids", ["known", "unknown"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{{ message['content'] }}", "{{ 'So: ' + message['content'] }}", "changes the response"),
        ("{% endif %}", "\n{% endif %}", "is cut into other tokens"),  # after 'assistant' only
        ("message['content']", "message['content'] | upper", "status 400"),
    ],
    ids=["prefixed", "another beginning", "shouted"],
)
def test_a_template_that_changes_the_response_leaves_it_undefined(
    old, new, words, ids, tiny, request
):
    assert CHATML.count(old) == 1
    asked, said = request.getfixturevalue(ids), []
    scores = PromptScores(tiny, template=CHATML.replace(old, new))
    with FaultServer(judge=scores) as server:
        found = scored(asked, server, say=said.append)
    assert undefined(found) == [True, True, True, False]  # the last one is empty
    assert found[0].rows[0].shape[1] == (len(asked[0].responses[0]) or 1)
    assert found[0].rows[3].shape[1] == 0
    assert any(words in line for line in said), said


def test_a_response_that_does_not_fit_behind_one_prompt_is_undefined_alone(tiny, hf, known):
    long = TEXTS["Hi"][0] * 15
    of_hf = cases(hf)[2]
    context = len(of_hf.prompts["plain"]) + len(hf.encode(long)) + 1
    case = dataclasses.replace(known[2], texts=["An", long], responses=[(), ()])
    said = []
    with FaultServer(judge=PromptScores(tiny, context=context)) as server:
        found = scored([case], server, say=said.append)
    assert undefined(found) == [False, True]
    assert "1 responses have no divergence" in said[0]
    assert "maximum context length" in said[0]


def test_numbers_that_are_no_log_probabilities_are_refused(tiny, known):
    class Logits(PromptScores):
        def _position(self, row, token, top):
            listed = super()._position(row, token, top)
            return {i: {**each, "logprob": each["logprob"] + 9} for i, each in listed.items()}

    with (
        FaultServer(judge=Logits(tiny)) as server,
        pytest.raises(UsageError, match="--logprobs-mode raw_logprobs"),
    ):
        scored(known, server)


def test_servers_share_the_work(tiny, known, exact):
    scores = PromptScores(tiny)
    with FaultServer(judge=scores) as one, FaultServer(judge=scores) as other:
        found = scored(known, one, other, concurrency=2)
        shares = [
            sum("prompt_logprobs" in seen.body for seen in server.seen) for server in (one, other)
        ]
    assert min(shares) > 3
    for number, wanted in exact.items():
        check_bounds(found[number], wanted)


def test_nothing_to_score_asks_nothing(known):
    found = dict(backend_of("http://127.0.0.1:1/v1").cross_score(known[3:], quiet))
    assert [rows.shape for rows in found[0].rows] == [(2 * 3 + 3 * 2, 0)]
