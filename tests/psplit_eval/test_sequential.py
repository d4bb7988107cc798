"""Gates that sample as they go: rounds, when they end, and what they say."""

import json

import numpy as np
import pytest

from psplit_eval.betting import sequential_p
from psplit_eval.cli import main
from psplit_eval.sampling import random_order
from psplit_eval.sequential import GAP
from psplit_eval.store import Store

DOCS, SAMPLES = 12, 2
SETTINGS = ["--modes", "normal", "--tasks", "psplit_sums", "--limit", str(DOCS)]
SETTINGS += ["--samples", str(SAMPLES), "--set", "max_tokens=6", "--reference", "none"]


@pytest.fixture(scope="module")
def baseline(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("baseline") / "run"
    assert main(["run", "--model", str(tiny), *SETTINGS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def gated(tiny, baseline, tmp_path, capsys):
    """A gate by some rules: its exit code and what it says as JSON, or its error."""

    def run(rules, *more, candidate="new", settings=(), seed="1"):
        path = tmp_path / "rules.yaml"
        path.write_text(f"format: 1\n{rules}\n")
        words = ["gate", "--baseline", str(baseline), "--candidate", str(tmp_path / candidate)]
        words += ["--rules", str(path), "--sequential", "--json", *more, "--"]
        capsys.readouterr()
        code = main([*words, "--model", str(tiny), *SETTINGS, "--seed", seed, *settings])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.startswith("{") else said.err

    return run


def one(kind="non-inferior", **fields):
    rule = {"task": "psplit_sums", "mode": "normal", "kind": kind, **fields}
    return f"rules: [{json.dumps(rule)}]"


def accuracy(run):
    """Doc → share of right samples."""
    with Store(run / "samples.sqlite") as store:
        return {
            m.doc_id: m.value for m in store.metrics(of_docs=True) if m.metric == "accuracy_avg"
        }


def order(run):
    with Store(run / "samples.sqlite") as store:
        docs = {doc.doc_id: doc.doc_hash for doc in store.docs("psplit_sums")}
    return random_order("psplit_sums", docs, 1)


def test_it_ends_as_soon_as_the_rule_is_decided(gated, tmp_path):
    code, said = gated(one(margin=0.9), "--round", "3")
    assert (code, said["outcome"]) == (0, "pass")
    drawn = accuracy(tmp_path / "new")
    assert 0 < len(drawn) < DOCS
    assert len(drawn) % 3 == 0
    (check,) = said["checks"]
    assert check["n_docs"] == len(drawn)


def test_docs_come_in_random_order(gated, baseline, tmp_path):
    gated(one(margin=0.9), "--round", "3")
    drawn = accuracy(tmp_path / "new")
    assert set(drawn) == set(order(baseline)[: len(drawn)])


def test_p_is_that_of_bets_on_docs_in_their_order(gated, baseline, tmp_path):
    code, said = gated(one(margin=0.01), "--round", "5")
    assert (code, said["outcome"]) == (3, "inconclusive")  # all docs are too few for a point
    before, after = accuracy(baseline), accuracy(tmp_path / "new")
    x = np.array([after[doc] - before[doc] for doc in order(baseline)])
    assert len(x) == DOCS
    (check,) = said["checks"]
    assert check["p"] == pytest.approx(sequential_p(x, -0.01, 0.01)[-1])
    assert check["p_against"] == pytest.approx(sequential_p(-x, 0.01, 0.01)[-1])


@pytest.mark.parametrize(("kind", "sign"), [("at-least", 1), ("at-most", -1)])
def test_bounds_are_bet_on_the_candidates_own_values(kind, sign, gated, baseline, tmp_path):
    _, said = gated(one(kind, bound=0.5), "--round", "12")
    own = accuracy(tmp_path / "new")
    x = np.array([sign * (own[doc] - 0.5) for doc in order(baseline) if doc in own])
    (check,) = said["checks"]
    assert check["p"] == pytest.approx(sequential_p(x, 0.0, GAP)[-1])


def test_a_stopped_gate_goes_on_to_the_same_end(gated, tmp_path, monkeypatch):
    import psplit_eval.run as runs

    whole = gated(one(margin=0.01), "--round", "4", candidate="whole")[1]
    fill, calls = runs.fill, []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fill(*arguments)

    monkeypatch.setattr(runs, "fill", stopped)
    assert gated(one(margin=0.01), "--round", "4", candidate="parts")[0] == 130
    assert 0 < len(accuracy(tmp_path / "parts")) < DOCS
    monkeypatch.undo()
    again = gated(one(margin=0.01), "--round", "4", candidate="parts")[1]
    assert [c["p"] for c in again["checks"]] == [c["p"] for c in whole["checks"]]
    assert accuracy(tmp_path / "parts") == accuracy(tmp_path / "whole")


def test_a_run_with_other_settings_is_refused_after_one_round(gated, tmp_path):
    code, said = gated(one(margin=0.1), "--round", "2", settings=["--set", "temperature=2"])
    assert code == 2
    assert "temperature" in said
    assert len(accuracy(tmp_path / "new")) == 2


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (one("split").replace('"task": "psplit_sums", ', ""), "a split"),
        (one(margin=0.1, judge="openai:m", rubric="story", dimension="imagery"), "a judge"),
        (f"docs: given\n{one(margin=0.1)}", "docs given"),
        (one("at-most", metric="entropy_bits", bound=3), "no fraction"),
    ],
)
def test_what_cannot_be_decided_while_sampling_is_refused(rules, what, gated):
    code, said = gated(rules, "--round", "4")
    assert code == 2
    assert what in said
    assert said.count("\n") <= 3


def test_a_gate_of_stored_runs_agrees_on_the_values(gated, baseline, tmp_path, capsys):
    _, said = gated(one(margin=0.9), "--round", "12")
    rules = tmp_path / "rules.yaml"
    words = ["gate", "--baseline", str(baseline), "--candidate", str(tmp_path / "new")]
    main([*words, "--rules", str(rules), "--json"])
    fixed = json.loads(capsys.readouterr().out)
    for name in ("baseline", "candidate", "difference", "n_docs"):
        assert fixed["checks"][0][name] == said["checks"][0][name]


@pytest.mark.parametrize(
    "words", [["--sequential"], ["--sequential", "--round", "0", "--", "--model", "m"], ["--", "x"]]
)
def test_options_that_do_not_go_together_are_one_line(words, baseline, tmp_path, capsys):
    given = ["gate", "--baseline", str(baseline), "--candidate", str(tmp_path / "x")]
    assert main([*given, "--rules", str(tmp_path / "r.yaml"), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
