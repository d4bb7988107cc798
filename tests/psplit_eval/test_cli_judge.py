"""psplit-eval judge: one command, kept and continued, paid as said, and every mistake one line."""

import json
import os
import signal
import threading

import pytest
from judgeable import make_run, sample
from judgeserver import GOOD, SEVENS, STORY, Server, said

from psplit_eval.cli import main
from psplit_eval.ledger import Ledger


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", scored=True)


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("m: {read: 10000, written: 100000, currency: EUR}\n")
    return ["--prices", str(path)]


def judge(run, server, *more, code=0):
    url = server if isinstance(server, str) else server.url
    command = ["judge", str(run), "--judge", f"openai:m@{url}", "--retries", "1", *more]
    assert main(command) == code


def verdicts(run, kind="scores"):
    with Ledger(run / "judgements.sqlite") as ledger:
        (name,) = ledger.judges()
        return [call.verdict for _, call in ledger.judged(name, STORY.hash, kind, "psplit_story")]


def test_a_run_is_judged_and_not_twice(run, capsys):
    with Server() as server:
        judge(run, server)
        assert "8 questions, 0 known, asked 8; 800 tokens read and 80 written" in (
            capsys.readouterr().out
        )
        judge(run, server)
        assert "8 questions, 8 known, asked 0" in capsys.readouterr().out
        assert len(server.questions) == 8
    assert verdicts(run) == [SEVENS] * 8


def test_pairs_and_both(run, capsys):
    def say(body, number):
        return said('{"better": "A"}' if "You compare" in body["messages"][0]["content"] else GOOD)

    with Server(say) as server:
        judge(run, server, "--pairwise")
        judge(run, server, "--both")
        assert "16 questions, 8 known, asked 8" in capsys.readouterr().out
    assert verdicts(run, "choice") == [{"first": 1.0}] * 8


def test_json_says_what_was_asked_and_what_it_took(run, capsys, prices):
    unreadable = said("words")
    with Server(
        lambda b, n: unreadable if "0-1" in b["messages"][1]["content"] else said(GOOD)
    ) as s:
        judge(run, s, "--json", *prices)
    (found,) = json.loads(capsys.readouterr().out)["judges"]
    assert found["judge"].startswith("openai:m@http://127.0.0.1")
    assert (found["questions"], found["asked"], found["known"]) == (8, 8, 0)
    assert (found["unreadable"], found["failed"], found["left"]) == (2, 0, 0)
    assert found["prompt_tokens"] == 100 * (6 + 4)
    assert found["cost"] == pytest.approx(2.0 * 10)
    assert not found["estimated"]


def test_a_dry_run_says_what_it_would_cost(run, capsys, prices):
    with Server() as server:
        judge(run, server, "--dry-run", *prices)
        out = capsys.readouterr().out
        judge(run, server, "--dry-run")
        assert "no price is known: give --prices FILE" in capsys.readouterr().out
    assert "would ask 8" in out
    assert "EUR" in out
    assert server.seen == []
    assert not (run / "judgements.sqlite").exists()


def test_a_budget_stops_in_good_order(run, capsys, prices):
    """A question takes 2 EUR, and could take hundreds: a byte a token, asked in every way."""
    with Server() as server:
        judge(run, server, *prices, "--max-cost", "100")
        out = capsys.readouterr().out
        assert "asked 0" in out
        assert "8 not asked, as --max-cost is reached: one may cost up to " in out
        assert server.seen == []
        most = float(out.rpartition("up to ")[2].split()[0].replace(",", ""))
        judge(run, server, *prices, "--max-cost", str(most + 3))
        asked = len(server.questions)
        assert asked
        judge(run, server, *prices)
        assert f"EUR (earlier: {2 * asked}.00 EUR)" in capsys.readouterr().out
    assert verdicts(run) == [SEVENS] * 8


def test_recorded_verdicts_are_a_judge_too(run, tmp_path, capsys):
    path = tmp_path / "v.jsonl"
    path.write_text('{"about": "x", "verdict": null}\n')
    assert main(["judge", str(run), "--judge", f"recorded:{path}"]) == 0
    assert "8 verdicts could not be read and are missing" in capsys.readouterr().out


def test_recorded_verdicts_are_found_by_their_names(tmp_path, capsys):
    same = tuple(sample("high", "psplit_story", 0, i, "p", text="The same.") for i in (0, 1))
    run = make_run(tmp_path / "run", more=same, scored=True)
    path = tmp_path / "v.jsonl"
    rows = [(f"psplit_story/0/high/{i}", dict.fromkeys(STORY.names, 3 + i)) for i in (0, 1)]
    rows.append(("psplit_story/1/normal/0/high/0", {"first": 0.5}))
    path.write_text("".join(json.dumps({"about": a, "verdict": v}) + "\n" for a, v in rows))
    assert main(["judge", str(run), "--judge", f"recorded:{path}", "--both"]) == 0
    assert "13 verdicts could not be read" in capsys.readouterr().out
    assert [v["creativity"] for v in verdicts(run) if v] == [3, 4]
    assert [v for v in verdicts(run, "choice") if v] == [{"first": 0.5}]


def test_a_panel_is_one_command(run, capsys, prices):
    with Server() as server, Server(lambda b, n: said("no")) as other:
        both = ["--judge", f"openai:m@{other.url}"]
        judge(run, server, *both, *prices)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "8 questions, 0 known" in line]
    assert len(lines) == 2
    assert "could not be read" in lines[1]
    with Ledger(run / "judgements.sqlite") as ledger:
        assert len(ledger.panels()) == 2


def test_an_interrupted_command_is_continued(run, capsys):
    def say(body, number):
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.5)
        return said(GOOD)

    with Server(say) as server:
        judge(run, server, "--concurrency", "1", code=130)
    assert "Traceback" not in capsys.readouterr().err
    done = len(verdicts(run))
    assert 3 <= done <= 5
    with Server(port=server.port) as server:
        judge(run, server)
        assert len(server.questions) == 8 - done
    assert verdicts(run) == [SEVENS] * 8


def test_a_server_that_is_gone_is_exit_code_4_and_what_was_done_is_kept(run, capsys):
    with Server() as server:
        judge(run, server, "--samples", "1")
    judge(run, server.url, code=4)
    err = capsys.readouterr().err
    assert "no answer from" in err
    assert "Traceback" not in err
    assert len(verdicts(run)) == 4


def test_failed_questions_are_said_and_tried_again(run, capsys):
    def say(body, number):
        too_long = (400, {"error": {"message": "maximum context length is 8"}})
        return too_long if "1-1" in body["messages"][1]["content"] else said(GOOD)

    with Server(say) as server:
        judge(run, server)
        assert "2 failed: give the same command again" in capsys.readouterr().out
        server.say = lambda body, number: said(GOOD)
        judge(run, server)
        assert "6 known, asked 2" in capsys.readouterr().out
    assert verdicts(run) == [SEVENS] * 8


WRONG = [
    (["--rubric", "storry"], "did you mean 'story'?"),
    (["--rubric", "none.yaml"], "no such file"),
    (["--tasks", "psplit_stroy"], "did you mean 'psplit_story'?"),
    (["--rubric", "uses"], "give --tasks, or another --rubric"),
    (["--samples", "0"], "--samples 0: expected 1 or more"),
    (["--max-cost", "5"], "no price is known; give --prices"),
    (["--max-cost", "nan"], "expected a number above 0"),
    (["--prices", "none.yaml"], "no such file"),
    (["--concurrency", "0"], "--concurrency 0: expected more than 0"),
    (["--retries", "-1"], "--retries -1: expected 0 or more"),
    (["--max-tokens", "0"], "--max-tokens 0: expected more than 0"),
    (["--timeout", "nan"], "--timeout nan: expected more than 0"),
    (["--temperature", "3"], "--temperature 3.0: expected a number from 0 to 2"),
    (["--judge", "openai:m@http://127.0.0.1:9/v1"], "named twice"),
    (["--judge", "openai:m@http://127.0.0.1:9/v1/"], "named twice"),
    (["--judge", "gpt"], "expected openai:MODEL"),
    (["--judge", "opnai:m"], "did you mean 'openai'?"),
    (["--judge", "recorded:none.jsonl"], "no such file"),
    (["--pairwise", "--both"], "not allowed with"),
]


@pytest.mark.parametrize(("more", "words"), WRONG, ids=[" ".join(more) for more, _ in WRONG])
def test_mistakes_are_one_line_exit_code_2_and_leave_nothing(more, words, run, capsys):
    before = {path.name for path in run.iterdir()}
    command = ["judge", str(run), "--judge", "openai:m@http://127.0.0.1:9/v1", *more]
    try:
        code = main(command)
    except SystemExit as stopped:  # argparse
        code = stopped.code
    assert code == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert {path.name for path in run.iterdir()} - {".lock"} == before


def test_a_run_that_is_not_scored_is_judged_and_its_bill_is_said(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    with Server() as server:
        judge(run, server, code=2)
    said = capsys.readouterr()
    assert "asked 8; 800 tokens read" in said.out
    assert "not scored yet" in said.err
    assert verdicts(run) == [SEVENS] * 8


def test_an_unknown_checkpoint_or_key_is_one_line(run, capsys):
    assert main(["judge", str(run), "--judge", "hf:./nowhere"]) == 2
    assert not (run / "judgements.sqlite").exists()
    with Server(key="right") as server:
        judge(run, server, code=2)
    err = capsys.readouterr().err
    assert "set OPENAI_API_KEY" in err
    assert "Traceback" not in err


def test_a_damaged_ledger_is_exit_code_4(run, capsys):
    (run / "judgements.sqlite").write_bytes(b"no database at all" * 100)
    judge(run, "http://127.0.0.1:9/v1", code=4)
    assert "move it away and judge again" in capsys.readouterr().err
