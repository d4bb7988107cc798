"""The openai backend: every sample ends as text or as an error, and nothing paid for is lost."""

import json
import os
import signal

import pytest
from faultserver import FAULTS, FaultServer
from serving import PROMPT, asked_for, backend_of, collect, drawn, questions, quiet, texts

from psplit_eval.cli import main
from psplit_eval.errors import TemplateError
from psplit_eval.store import Store

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def run(server, folder, *more, model="m", code=0):
    """A whole run through the command line: two modes, one of psplit's tasks."""
    command = ["run", "--backend", "openai", "--base-url", server.url, "--model", model]
    small = ["--modes", "normal,high", "--tasks", "psplit_sums", "--limit", "6", "--samples", "2"]
    assert main([*command, *small, "--out", str(folder), *more]) == code


def stored(folder):
    with Store(folder / "samples.sqlite") as store:
        return {sample.key: sample for sample in store.samples()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_survived_and_changes_nothing(fault):
    with FaultServer() as calm:
        expected = texts(drawn(asked_for(), calm))
    with FaultServer(script=[None, fault]) as server:
        found = drawn(asked_for(), server, timeout=2.0 if fault == "stall" else 30.0)
        assert texts(found) == expected
        assert len(server.seen) >= 1 + 4 + 1
        if fault != "stall":  # on a busy machine others may run into the timeout, too
            assert len(server.seen) == 1 + 4 + 1


@pytest.mark.parametrize(
    ("answer", "words", "tries"),
    [
        ((500, {"error": {"message": "out of memory"}}), "status 500: out of memory", 4),
        ((400, {"error": {"message": "maximum context length is 8"}}), "maximum context", 1),
        ((403, {"error": {"message": "flagged"}}), "status 403: flagged", 1),
        ((200, {"choices": [{"message": {"content": None}}]}), "content is null", 4),
        ((200, {"choices": [{"message": {}, "finish_reason": "content_filter"}]}), "filter", 1),
        ((200, ["no", "object"]), "no JSON object", 4),
    ],
)
def test_a_request_that_never_succeeds_is_an_error_and_its_neighbours_are_not(answer, words, tries):
    def judge(body):
        return answer if body["messages"][-1]["content"] == "Question 2" else None

    with FaultServer(judge=judge) as server:
        found = drawn(asked_for(6), server, retries=3)
        bad = {key: result for key, result in found.items() if isinstance(result, Exception)}
        asked = [body for body in questions(server) if "Question 2" in str(body)]
    assert [key[2] for key in bad] == [2]
    assert words in str(bad["mode0", "t", 2, 0])
    assert len(asked) == tries


def test_completions_say_all_that_the_server_said():
    with FaultServer(ids=True) as server:
        found = drawn(asked_for(6, max_tokens=12), server)
    for result in found.values():
        assert result.prompt_tokens == 5
        assert result.tokens == len(result.ids) == len(result.text.split()) <= 12
        assert result.nll_sum_nats == pytest.approx(result.tokens * 2.7726, rel=1e-3)
        assert result.entropy_estimate_sum_bits == pytest.approx(result.tokens * 3.5)
        assert result.entropy_sum_bits is None
        assert result.finish_reason == ("length" if result.tokens == 12 else "stop")
        assert result.seconds > 0


def test_without_log_probabilities_sums_are_not_known():
    with FaultServer(logprobs=False) as server:
        found = drawn(asked_for(), server)
    assert {r.entropy_estimate_sum_bits for r in found.values()} == {None}
    assert {r.nll_sum_nats for r in found.values()} == {None}
    assert all(result.tokens for result in found.values())


@pytest.mark.parametrize("honours", [True, False])
def test_stop_strings_end_an_answer_whatever_the_server_does_with_them(honours):
    until = (" no", " such", " word", " here", " red", " blue")
    with FaultServer(honours_stop=honours) as server:
        found = drawn(asked_for(12, until=until), server)
        bodies = questions(server)
    assert {tuple(body["stop"]) for body in bodies} == {until[:4]}
    assert all(word not in text for text in texts(found).values() for word in until)


def test_every_sample_has_its_own_seed_and_comes_again():
    requests = asked_for(5, 4, (None, PROMPT))
    with FaultServer() as server:
        found = texts(drawn(requests, server))
        seeds = [body["seed"] for body in questions(server)]
        assert texts(drawn(requests, server)) == found
    assert len(set(seeds)) == len(set(found.values())) == 40


def test_equal_texts_of_every_doc_are_said():
    said = []
    fixed = {"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}]}

    def judge(body):
        return (200, fixed) if "Question" in body["messages"][-1]["content"] else None

    with FaultServer(judge=judge) as server:
        drawn(asked_for(4, 3), server, say=said.append)
        assert ["same text each time" in line for line in said] == [True]
        said.clear()
        drawn(asked_for(4, 3, temperature=0.0), server, say=said.append)
    assert said == []


@pytest.mark.parametrize("way", ["watch", "signal"])
def test_an_interrupted_run_keeps_what_has_completed(way):
    requests = asked_for(300)
    kept, answered = [], 0

    def judge(body):
        nonlocal answered
        answered += 1
        if way == "signal" and answered == 100:
            os.kill(os.getpid(), signal.SIGINT)

    def watch(tokens, samples):
        if way == "watch":
            raise KeyboardInterrupt

    with FaultServer(judge=judge) as server:
        backend = backend_of(server.url, concurrency=4)
        with pytest.raises(KeyboardInterrupt):
            collect(backend, requests, kept, watch)
        assert 50 <= len(kept) < 300
        assert not [result for _, result in kept if isinstance(result, Exception)]
        assert len(questions(server)) <= len(kept) + 8


def test_a_whole_run_and_all_that_follows_it(tmp_path, capsys):
    folder = tmp_path / "run"
    with FaultServer(rate=0.2, seed=3) as server:
        run(server, folder, "--timeout", "5")
        asked = len(server.seen)
        run(server, folder, "--timeout", "5")
        assert len(server.seen) == asked  # nothing is missing, so nothing is asked
    samples = stored(folder)
    assert len(samples) == 24
    assert all(sample.error is None for sample in samples.values())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["urls"] == [server.url]
    assert manifest["checkpoint"] == {
        "name": "m", "path": None, "files": {}, "adapter": None,
        "fingerprint": manifest["checkpoint"]["fingerprint"],
    }  # fmt: skip
    page = (folder / "report.md").read_text()
    assert "entropy_bits_estimate" in page
    assert server.url in page
    for words in (
        ("score", folder),
        ("report", folder),
        ("compare", folder, folder),
        ("runs", "list", tmp_path),
        ("runs", "describe", folder),
        ("export", folder, "--out", tmp_path / "samples.jsonl"),
    ):
        assert main([*map(str, words)]) == 0
    assert "openai" in capsys.readouterr().out


def test_a_second_run_asks_only_for_what_is_missing(tmp_path):
    folder = tmp_path / "run"

    def judge(body):
        return (400, {"error": {"message": "no"}}) if "What is 9 + 3" in str(body) else None

    with FaultServer(judge=judge) as server:
        run(server, folder, "--allow-missing")
        failed = {key for key, sample in stored(folder).items() if sample.error}
        assert len(failed) == 4
    with FaultServer() as server:
        run(server, folder)
        asked = [body for body in server.seen if "What is" in str(body.messages)]
    assert len(asked) == 4
    assert {s.attempt for key, s in stored(folder).items() if key in failed} == {2}
    assert not [sample for sample in stored(folder).values() if sample.error]


def test_what_is_left_out_stays_in_the_manifest(tmp_path):
    folder = tmp_path / "run"
    refuses = {"min_p": (400, {"error": {"message": "unknown: min_p"}})}
    with FaultServer(refuses=refuses) as server:
        run(server, folder)
        run(server, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["left_out"] == ["min_p"]
    assert "not taken by the servers" in (folder / "report.md").read_text()


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def judge(body):  # a server that quotes the key in an error
        return (400, {"error": {"message": f"bad {KEY}"}}) if "9 + 3" in str(body) else None

    with FaultServer(key=KEY, judge=judge) as server:
        run(server, folder, "--allow-missing")
        assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert "(key)" in str([sample.error for sample in stored(folder).values()])
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert KEY not in str(capsys.readouterr())


@pytest.mark.parametrize("key", [None, "sk-another-key"])
def test_without_the_right_key_the_variable_is_named(tmp_path, monkeypatch, capsys, key):
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with FaultServer(key=KEY) as server:
        run(server, tmp_path / "run", code=2)
    said = capsys.readouterr().err
    assert "set OPENAI_API_KEY" in said.splitlines()[-1]
    assert key is None or key not in said


def test_errors_of_a_run_are_one_line_and_nothing_is_drawn(tmp_path, capsys):
    with FaultServer(ignores_seed=True) as server:
        run(server, tmp_path / "a", code=2)
        assert "same answer for every seed" in capsys.readouterr().err.splitlines()[-1]
        run(server, tmp_path / "b", model="other", code=2)
        assert "lists: m" in capsys.readouterr().err.splitlines()[-1]
    assert stored(tmp_path / "a") == {}
    run(server, tmp_path / "c", code=4)
    assert "correct its URL (--base-url" in capsys.readouterr().err.splitlines()[-1]


def test_thinking_belongs_to_a_run(tmp_path, capsys):
    with FaultServer(thinks="field") as server:
        run(server, tmp_path / "run", "--thinking", "off")
        run(server, tmp_path / "run", "--thinking", "on", "--limit", "8", code=2)
    assert "made with thinking False" in capsys.readouterr().err
    assert {sample.thought for sample in stored(tmp_path / "run").values()} == {"Let me see."}


def test_what_a_server_cannot_do_is_refused(tmp_path, capsys):
    with pytest.raises(TemplateError, match="cannot continue; take --backend hf"):
        backend_of("http://localhost/v1").render([{"role": "user", "content": "Hi"}], False)
    with FaultServer() as server:
        more = ["--include-path", str(tmp_path), "--tasks", "begun"]
        (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
        (tmp_path / "begun.yaml").write_text(
            "task: begun\ndataset_path: json\ntest_split: test\noutput_type: generate_until\n"
            f"dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
            'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ngen_prefix: "It is"\n'
            "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
        )
        run(server, tmp_path / "a", *more, code=2)
        assert server.seen == []
    assert "begins the answer itself" in capsys.readouterr().err.splitlines()[-1]


def test_nothing_to_draw_asks_nothing():
    assert list(backend_of("http://localhost:1/v1").run([], quiet)) == []
