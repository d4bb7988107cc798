"""Options that cannot be honoured are refused before anything is loaded or asked."""

import subprocess
import sys

import pytest

from psplit_eval.cli import main

SERVED = ("--backend", "openai", "--model", "m")
URL = ("--base-url", "http://localhost:1/v1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "m", "--backend", "other"), "unknown backend 'other'"),
        (("--model", "m", *URL), "--base-url is for the openai backend, not for hf"),
        (("--model", "m", "--retries", "3"), "--retries is for the openai backend"),
        (
            (*SERVED, *URL, "--dtype", "bfloat16"),
            "--dtype is for the hf or vllm backend, not for openai",
        ),
        ((*SERVED, *URL, "--batch-size", "3"), "--batch-size is for the hf or vllm"),
        ((*SERVED, *URL, "--chat-template", "x"), "--chat-template is for the hf or vllm"),
        ((*SERVED, *URL, "--trust-remote-code"), "--trust-remote-code is for the hf or vllm"),
        (SERVED, "give --base-url"),
        ((*SERVED, "--base-url", ","), "give --base-url"),
        ((*SERVED, "--base-url", "localhost:8000"), "expected a URL"),
        ((*SERVED, "--base-url", "http://me:secret@h/v1"), "put a key into OPENAI_API_KEY"),
        ((*SERVED, "--base-url", "http://h/v1?key=secret"), "expected it without ?"),
        ((*SERVED, *URL, *URL), "named twice"),
        ((*SERVED, *URL, "--concurrency", "0"), "--concurrency 0: expected"),
        ((*SERVED, *URL, "--timeout", "-1"), "--timeout -1.0: expected"),
        ((*SERVED, *URL, "--timeout", "nan"), "--timeout nan: expected"),
        ((*SERVED, *URL, "--top-logprobs", "-1"), "--top-logprobs -1: expected 0 or more"),
        ((*SERVED, *URL, "--retries", "-1"), "--retries -1: expected"),
        (
            (*SERVED, *URL, "--tasks", "arc_easy", "--data", "arc_easy=rows"),
            "openai backend cannot",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = '{"question": "1?", "choices": {"text": ["2"], "label": ["A"]}, "answerKey": "A"}\n'
    (tmp_path / "rows").write_text(row)
    assert main(["run", *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err.splitlines()[-1]
    assert "secret" not in printed.err
    assert not (tmp_path / "runs").exists()


def test_a_key_that_cannot_be_sent_is_refused_and_not_quoted(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\nX-Other: 1")
    assert main(["run", *SERVED, *URL]) == 2
    said = capsys.readouterr().err
    assert "OPENAI_API_KEY holds characters" in said
    assert "sk-secret" not in said


def test_servers_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from psplit_eval.backends import EngineOptions\n"
        "from psplit_eval.engines import check_engine, find_model, open_backend\n"
        "options = EngineOptions(backend='openai', base_url=('http://localhost:1/v1',))\n"
        "check_engine(options)\n"
        "backend = open_backend(find_model('m', options, str), options, str)\n"
        "print(backend.describe()['backend'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("openai", "")
