"""The ledger of calls: nothing that was paid for is lost, or paid for twice."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from psplit_eval.errors import CorruptStoreError, InfrastructureError
from psplit_eval.ledger import Call, Judgement, Ledger
from psplit_eval.rubrics import find_rubric

VERDICT = {"creativity": 7.0}


def call(content="c1", verdict=VERDICT, unreadable=None, error=None, **changes):
    if unreadable or error:
        verdict = None
    made = Call(
        *(content, "j", "r", "scores", verdict, unreadable, error, "said", {"mass": 0.5}),
        *(1, 100, 10, 0.5, "now"),
    )
    return replace(made, **changes)


def judgement(content="c1", doc=0, mode="normal", index=0, **changes):
    made = Judgement("j", "r", "scores", "t", doc, mode, index, "", -1, content)
    return replace(made, **changes)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "judgements.sqlite") as opened:
        yield opened


def test_calls_come_back_as_they_were(ledger):
    odd = call("c2", None, unreadable="a\ud800b", reply="\ud83d", detail=None, prompt_tokens=None)
    ledger.add([call(), odd])
    found = ledger.answered(["c1", "c2", "c3"])
    assert found["c1"] == call()
    assert found["c2"] == replace(odd, unreadable="a?b", reply="?")
    assert found.keys() == {"c1", "c2"}


def test_many_calls_are_found(ledger):
    ledger.add(call(str(i)) for i in range(2000))
    assert len(ledger.answered(str(i) for i in range(1000, 3000))) == 1000


def test_a_failed_call_is_replaced_and_the_tokens_of_both_count(ledger):
    ledger.add([call(error="cut", tries=2)])
    assert ledger.answered(["c1"]) == {}
    ledger.add([call(tries=1, prompt_tokens=30, completion_tokens=3)])
    (found,) = ledger.answered(["c1"]).values()
    assert (found.verdict, found.error) == (VERDICT, None)
    assert (found.tries, found.prompt_tokens, found.completion_tokens) == (3, 130, 13)


@pytest.mark.parametrize(
    ("before", "after", "total"), [(None, 5, 5), (5, None, 5), (None, None, None), (2, 3, 5)]
)
def test_tokens_that_were_told_count_whatever_the_other_call_told(before, after, total, ledger):
    ledger.add([call(error="cut", prompt_tokens=before)])
    ledger.add([call(prompt_tokens=after)])
    assert ledger.answered(["c1"])["c1"].prompt_tokens == total
    assert ledger.spent("j").prompt_tokens == (total or 0)


@pytest.mark.parametrize("final", [{"unreadable": "no score"}, {}])
def test_what_was_answered_is_final(final, ledger):
    ledger.add([call(**final)])
    ledger.add([call(verdict={"creativity": 1.0}, reply="other", prompt_tokens=1)])
    assert ledger.answered(["c1"])["c1"] == call(**final)
    ledger.add([call(error="cut")])
    assert ledger.answered(["c1"])["c1"] == call(**final)


def test_spending_counts_what_came_to_nothing(ledger):
    ledger.add([call(), call("c2", unreadable="x", tries=2), call("c3", error="y"), call("c4")])
    ledger.add([call("c5", prompt_tokens=None, completion_tokens=None), call("c6", judge="k")])
    assert ledger.spent("j") == (5, 6, 1, 1, 400, 40, 4)
    assert ledger.spent("nobody") == (0, 0, 0, 0, 0, 0, 0)


def test_judgements_come_in_order_with_their_calls(ledger):
    ledger.add([call(), call("c2", verdict={"creativity": 1.0})])
    places = [(1, "normal", 0), (0, "normal", 1), (0, "high", 0), (0, "normal", 0)]
    ledger.add([], [judgement("c1", *place) for place in places])
    ledger.add([], [judgement("c2", task="u"), judgement("c2", kind="choice", other_mode="high")])
    found = list(ledger.judged("j", "r", "scores", "t"))
    assert [(j.doc_id, j.mode, j.sample_idx) for j, _ in found] == sorted(places)
    assert {c.call_hash for _, c in found} == {"c1"}
    assert ledger.panels() == [
        ("j", "r", "choice", "t"),
        ("j", "r", "scores", "t"),
        ("j", "r", "scores", "u"),
    ]


def test_a_judgement_that_is_made_again_takes_the_place(ledger):
    ledger.add([call(), call("c2")], [judgement("c1")])
    ledger.add([], [judgement("c2")])
    assert [c.call_hash for _, c in ledger.judged("j", "r", "scores", "t")] == ["c2"]


def test_nothing_of_a_commit_that_fails_is_kept(ledger):
    def broken():
        yield call()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        ledger.add(broken())
    assert ledger.answered(["c1"]) == {}


def test_judges_and_rubrics_are_kept_as_they_are(ledger):
    rubric = find_rubric("story")
    ledger.introduce("j", {"kind": "a"}, rubric.hash, rubric.to_dict())
    ledger.introduce("j", {"kind": "\ud800"}, rubric.hash, rubric.to_dict())
    assert ledger.judges() == {"j": {"kind": "?"}}
    (kept,) = ledger.rubrics().values()
    assert list(kept["dimensions"]) == list(rubric.names)


def test_a_killed_writer_leaves_whole_commits(tmp_path):
    path = tmp_path / "judgements.sqlite"
    script = """
import sys, pathlib
sys.path.insert(0, sys.argv[2])
from test_ledger import call, judgement
from psplit_eval.ledger import Ledger
with Ledger(pathlib.Path(sys.argv[1])) as ledger:
    for i in range(10**6):
        both = [f"{i}-{j}" for j in range(3)]
        ledger.add([call(c) for c in both], [judgement(c, i, index=j) for j, c in enumerate(both)])
        print(i, flush=True)
"""
    folder = os.path.dirname(__file__)
    command = [sys.executable, "-c", script, str(path), folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        while int(writer.stdout.readline()) < 20:
            pass
        writer.send_signal(signal.SIGKILL)
        done = 1 + max(map(int, [20, *writer.stdout.read().split()]))
    with Ledger(path) as ledger:
        found = list(ledger.judged("j", "r", "scores", "t"))
        assert len(found) in (3 * done, 3 * done + 3)
        assert ledger.spent("j").calls == len(found)


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_ledger_is_named_and_samples_need_not_be_drawn_again(content, tmp_path):
    path = tmp_path / "judgements.sqlite"
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="move it away and judge again") as caught:
        Ledger(path)
    assert str(path) in str(caught.value)
    assert "delete the run folder" not in str(caught.value)


def test_damage_in_the_middle_is_found(tmp_path):
    path = tmp_path / "judgements.sqlite"
    with Ledger(path) as ledger:
        ledger.add(call(str(i), reply="x" * 500) for i in range(500))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="damaged"):
        Ledger(path)


def test_a_ledger_of_a_newer_psplit_is_refused(tmp_path):
    path = tmp_path / "judgements.sqlite"
    with Ledger(path) as ledger:
        version = ledger.version
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version + 1}")
    db.close()
    with pytest.raises(CorruptStoreError, match="newer psplit"):
        Ledger(path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InfrastructureError, match="what was done is kept"):
        Ledger(tmp_path / "none" / "judgements.sqlite")
