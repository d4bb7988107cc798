"""Processes that score change nothing but the time it takes."""

import multiprocessing
from dataclasses import dataclass, field

import pytest

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.creativity import CreativityScorer
from psplit_eval.errors import DataError, UsageError
from psplit_eval.measures import HarnessScorer
from psplit_eval.scoring import AccuracyScorer, Answers, of_doc
from psplit_eval.store import Doc, Sample
from psplit_eval.workers import scoring_by, worker_count

WORDS = ["the", "sea", "was", "calm", "and", "a", "ship", "came", "home", "with", "grain"]
SCORERS = {"sums": AccuracyScorer(AnswerFormat(r"(\S+)$")), "story": CreativityScorer()}


def answered(task, docs):
    for number in range(docs):
        texts = [" ".join(WORDS[number % 3 :: 1 + i]) + f" 1/{number % 4 + i}" for i in range(1, 4)]
        samples = [
            Sample(
                *("m", task, number, i, "h", "r", "p", 1, 1, text, None, None, "stop", 5, 9, 1.0),
                *(1.0, None, 0.1, "now"),
            )
            for i, text in enumerate(texts)
        ]
        yield Answers(Doc(task, number, "h", {}, f"0.{number % 9}"), {"m": samples})


def test_several_processes_give_the_same_numbers_in_the_same_order(monkeypatch):
    found = {}
    for workers in ("0", "2"):
        monkeypatch.setenv("PSPLIT_WORKERS", workers)
        with scoring_by(SCORERS, 10**6) as score:
            found[workers] = [list(score(task, answered(task, 100))) for task in SCORERS]
            assert len(multiprocessing.active_children()) == int(workers)
    assert repr(found["0"]) == repr(found["2"])  # repr: NaN differs from itself
    assert {m.doc_id for m in found["2"][0]} == set(range(100))


def test_only_a_few_docs_are_read_ahead(monkeypatch):
    monkeypatch.setenv("PSPLIT_WORKERS", "2")
    read = 0

    def docs():
        nonlocal read
        for item in answered("sums", 2000):
            read += 1
            yield item

    with scoring_by(SCORERS, 10**6) as score:
        numbers = score("sums", docs())
        next(numbers)
        assert read <= 2 * 4 * 32
        assert len({m.doc_id for m in numbers}) == read == 2000


def test_what_a_killed_process_left_is_done_here(monkeypatch):
    monkeypatch.setenv("PSPLIT_WORKERS", "2")
    with scoring_by(SCORERS, 10**6) as score:
        numbers = score("story", answered("story", 400))
        found = [next(numbers)]
        for process in multiprocessing.active_children():
            process.kill()
        found += numbers
    monkeypatch.setenv("PSPLIT_WORKERS", "0")
    with scoring_by(SCORERS, 10**6) as score:
        assert repr(found) == repr(list(score("story", answered("story", 400))))


def test_an_error_of_a_scorer_is_the_one_that_it_is_here(monkeypatch):
    monkeypatch.setenv("PSPLIT_WORKERS", "1")
    broken = HarnessScorer("sums", "none", {}, "acc", {"acc": True})
    with scoring_by({"sums": broken}, 10**6) as score, pytest.raises(DataError, match="not known"):
        list(score("sums", answered("sums", 3)))


def test_a_scorer_that_cannot_be_sent_scores_here(monkeypatch):
    @dataclass(frozen=True)
    class Local:
        kind: str = field(default="accuracy", init=False)

        def score(self, doc, samples, evidence):
            yield of_doc(samples, "n", len(samples))

    monkeypatch.setenv("PSPLIT_WORKERS", "2")
    with scoring_by({"sums": Local(), "story": CreativityScorer()}, 10**6) as score:
        assert [m.value for m in score("sums", answered("sums", 5))] == [3] * 5
        assert list(score("story", answered("story", 5)))


def test_a_small_run_needs_no_processes(monkeypatch):
    monkeypatch.delenv("PSPLIT_WORKERS", raising=False)
    assert worker_count(500) == 0
    assert 0 <= worker_count(10**6) <= 8
    assert worker_count(10**6) != 1


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_is_a_usage_error(monkeypatch, text):
    monkeypatch.setenv("PSPLIT_WORKERS", text)
    with pytest.raises(UsageError, match="PSPLIT_WORKERS"):
        worker_count(10)
