"""Which samples a report shows: those that it says it shows."""

import re

import pytest
from judgeable import make_run, sample, story

from psplit_eval.excerpts import SELECTION, select
from psplit_eval.manifest import open_run
from psplit_eval.store import Store
from psplit_eval.stored import stored_arms


@pytest.fixture
def shown(tmp_path):
    """What is shown of a run with changed samples."""

    def of(*more, modes=None, tasks=("psplit_story", "sums")):
        folder = make_run(tmp_path / "run", modes, tasks, scored=True, more=more)
        arms = stored_arms(folder)[1]
        with Store(folder / "samples.sqlite") as store:
            return select(store, arms, open_run(folder)["tasks"])

    return of


def test_the_first_docs_of_every_task_with_the_first_sample_of_every_mode(shown):
    found = shown()
    assert [(e.task, e.doc_id) for e in found] == [
        *(("psplit_story", 0), ("psplit_story", 1)),
        *(("sums", 0), ("sums", 1)),
    ]
    assert [[said.mode for said in e.said] for e in found] == [["normal", "high"]] * 4
    assert [said.text for said in found[1].said] == [story("normal", 1, 0), story("high", 1, 0)]
    assert "What is 0 + 0?" in found[0].said[0].prompt


def test_how_a_sample_ended_and_whether_it_is_right(shown):
    cut = sample("high", "sums", 0, 0, "p", text="1", finish_reason="length")
    (first, second), _ = (e.said for e in shown(cut, tasks=("sums",)))
    assert first.about == "wrong, 9 tokens"
    assert second.about == "wrong, 9 tokens, cut at the token limit"


def test_long_texts_are_cut_and_say_so(shown):
    long = sample("high", "psplit_story", 0, 0, "p", text="a" * 1_000_000)
    text = shown(long)[0].said[1].text
    limit = int(re.search(r"at most ([\d,]+) characters", SELECTION)[1].replace(",", ""))
    assert text == "a" * limit + " … (1,000,000 characters in all)"


def test_what_could_not_be_had_and_what_was_only_scored_is_not_shown(shown):
    failed = sample("high", "sums", 0, 0, "p", text=None, error="gone")
    scored = sample("high", "sums", 1, 0, "p", finish_reason="scored")
    found = shown(failed, scored, tasks=("sums",))
    assert [[said.mode for said in e.said] for e in found] == [["normal"], ["normal"]]
