"""Runs that are scored under other prompts, and what their files say."""

import json
import math

import pytest

from psplit_eval.cli import main
from psplit_eval.store import Store

PLAIN = ["--set", "temperature=1", "--set", "top_k=0", "--set", "top_p=1"]
BARE = ["--encoder", "none", "--reference", "none"]


def psplit(*arguments):
    return main(list(map(str, arguments)))


def sampled(model, out, *more, docs=6, samples=2, tokens=8):
    """A run of sums, its texts measured by no model."""
    what = ["--tasks", "psplit_sums", "--limit", docs, "--samples", samples]
    given = ["run", "--model", model, *what, "--set", f"max_tokens={tokens}", *BARE]
    assert psplit(*given, "--out", out, *more) == 0
    return out


def diverge(run, *more):
    return psplit("diverge", run, *more)


def read(run, name="divergence.json"):
    return json.loads((run / name).read_text())


def answers(run):
    return {(a["question"], a["mode_b"]): a for a in read(run)["answers"]}


def cross_scores(run):
    """(mode, doc, sample, policy) → score."""
    with Store(run / "samples.sqlite") as store:
        return {
            (score.mode, score.doc_id, score.sample_idx, policy): score
            for mode, task in store.counts()
            for policy in {name for _, _, name in store.cross_scored(task, mode)}
            for score in store.cross_scores(task, mode, policy)
        }


NUMBERS = ("entropy_sum_bits", "nll_sum_bits", "kl_sum_bits", "kl_back_sum_bits", "js_sum_bits")


def assert_same(run, other):
    ours, theirs = cross_scores(run), cross_scores(other)
    assert ours.keys() == theirs.keys()
    for key, score in ours.items():
        for name in NUMBERS:
            assert getattr(score, name) == pytest.approx(
                getattr(theirs[key], name), rel=1e-6, abs=1e-6
            )


def check_entropies(run):
    """What was found while sampling is found again under the same prompt."""
    found = cross_scores(run)
    with Store(run / "samples.sqlite") as store:
        for sample in store.samples():
            own = found[sample.mode, sample.doc_id, sample.sample_idx, sample.mode]
            assert own.tokens == sample.completion_tokens == len(sample.completion_ids)
            assert own.entropy_sum_bits == pytest.approx(sample.entropy_sum_bits, rel=1e-4)
            assert own.nll_sum_bits * math.log(2) == pytest.approx(sample.nll_sum_nats, rel=1e-4)
            assert own.kl_sum_bits == own.kl_back_sum_bits == own.js_sum_bits == 0
