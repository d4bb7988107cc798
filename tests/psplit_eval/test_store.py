"""The sample store: what goes in comes out, atomically, and damage is said."""

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.errors import CorruptStoreError, InfrastructureError
from psplit_eval.schema import MIGRATIONS
from psplit_eval.store import CrossScore, Doc, Metric, Prompt, Sample, Store


def sample(doc_id=0, idx=0, *, mode="normal", text="hi", error=None, attempt=1, ids=(1, 2)):
    failed = error is not None
    return Sample(
        mode, "t", doc_id, idx, "dh", "rh", "ph", 7, attempt, None if failed else text, None,
        None if failed else ids, None if failed else "stop", 3, None if failed else len(ids),
        None if failed else 1.5, None if failed else 0.5, error, 0.1, "2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "samples.sqlite") as store:
        yield store


def test_samples_come_back_as_they_were_put_in_key_order(store):
    rows = [sample(1, 1), sample(0, 1), sample(0, 0), sample(1, 0, mode="high")]
    store.add_samples(rows)
    assert list(store.samples()) == [rows[3], rows[2], rows[1], rows[0]]
    assert list(store.samples(task="t", mode="high")) == [rows[3]]
    assert list(store.samples(task="other")) == []


@given(st.text(), st.lists(st.integers(0, 2**31 - 1)))
@settings(deadline=None, max_examples=50)
def test_any_text_and_any_token_ids_survive(tmp_path_factory, text, ids):
    with Store(tmp_path_factory.mktemp("s") / "s.sqlite") as store:
        store.add_samples([sample(text=text, ids=tuple(ids))])
        (back,) = store.samples()
    assert (back.text, back.completion_ids) == (text, tuple(ids))


def test_a_good_sample_is_never_overwritten_but_a_failed_one_is(store):
    store.add_samples([sample(0, text="first"), sample(1, error="server gone")])
    store.add_samples([sample(0, text="second"), sample(1, text="now", attempt=2)])
    assert [(s.text, s.attempt, s.error) for s in store.samples()] == [
        ("first", 1, None),
        ("now", 2, None),
    ]
    assert sorted(store.attempts()) == [
        (("normal", "t", 0, 0), 1, True, "rh"),
        (("normal", "t", 1, 0), 2, True, "rh"),
    ]
    assert store.counts() == {("normal", "t"): 2}


def test_a_group_is_stored_whole_or_not_at_all(store):
    def breaks_half_way():
        yield sample(0)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.add_samples(breaks_half_way())
    assert list(store.samples()) == []


def test_plan_metrics_and_nan_survive_reopening(tmp_path):
    path = tmp_path / "s.sqlite"
    doc = Doc("t", 0, "h", {"q": "é", "n": [1]}, "42")
    prompt = Prompt("p", "high", "text", (5, 6))
    with Store(path) as store:
        store.add_plan([prompt], [doc])
        store.add_plan([prompt], [doc])
        store.replace_metrics("t", [Metric("high", "t", 0, None, "old", 1.0)])
        store.replace_metrics(
            "t",
            [Metric("high", "t", 0, None, "m", math.nan), Metric("high", "t", 0, 3, "m", 1.0)],
        )
    with Store(path) as store:
        assert list(store.docs()) == [doc]
        assert list(store.prompts("high")) == [prompt]
        whole, single = store.metrics("t")
    assert math.isnan(whole.value)
    assert whole.sample_idx is None
    assert single == Metric("high", "t", 0, 3, "m", 1.0)


def test_truncated_means_cut_by_the_token_limit():
    row = sample()
    assert not row.truncated
    assert Sample(
        **{f: getattr(row, f) for f in row.__slots__} | {"finish_reason": "length"}
    ).truncated


@pytest.mark.parametrize(
    "content", [b"this is not a database, not at all" * 9, b"SQLite format 3\0xx"]
)
def test_a_damaged_store_is_named(tmp_path, content):
    path = tmp_path / "samples.sqlite"
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"samples\.sqlite: damaged"):
        Store(path)


def test_a_page_overwritten_in_the_middle_is_noticed_on_opening(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add_samples(sample(i, text="x" * 500) for i in range(200))
    data = bytearray(path.read_bytes())
    data[8192:40960] = b"\x55" * (40960 - 8192)
    path.write_bytes(data)
    with pytest.raises(CorruptStoreError):
        Store(path)


def test_a_store_of_a_newer_psplit_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        assert store.version == len(MIGRATIONS)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(CorruptStoreError, match="newer psplit"):
        Store(path)


def test_a_store_that_cannot_be_written_is_an_infrastructure_error(tmp_path):
    with pytest.raises(InfrastructureError, match="same command again"):
        Store(tmp_path / "missing" / "s.sqlite")


def test_a_full_disk_keeps_what_was_done(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add_samples([sample(0)])
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(InfrastructureError, match="full"):
            store.add_samples(sample(i, text="x" * 9999) for i in range(1, 50))
    with Store(path) as store:
        assert [s.doc_id for s in store.samples()] == [0]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_store_of_every_earlier_version_opens_and_takes_new_samples(tmp_path, version):
    path = tmp_path / "samples.sqlite"
    path.write_bytes((Path(__file__).parent / "stores" / f"v{version}.sqlite").read_bytes())
    assert version_of(path) == version
    with Store(path) as store:
        assert store.version == len(MIGRATIONS)
        found = {(s.mode, s.doc_id, s.sample_idx): s for s in store.samples("psplit_sums")}
        assert len(found) == 9
        good, lost = found["high", 0, 0], found["high", 1, 2]
        assert (good.text, good.entropy_sum_bits) == ("9 + 3 = 12", 13.435096178203821)
        assert good.completion_ids
        assert (lost.text, lost.error) == (None, "RuntimeError: server gone")
        assert [doc.target for doc in store.docs()] == ["12", "15"]
        assert {p.prompt_hash for p in store.prompts()} == {s.prompt_hash for s in found.values()}
        assert len([m for m in store.metrics() if m.metric == "correct"]) == 8
        imported = replace(good, sample_idx=5, seed=None, prompt_tokens=None, seconds=None)
        store.add_samples([imported, replace(lost, text="15", error=None)])
        assert imported in list(store.samples())
        assert {s.error for s in store.samples()} == {None}


def version_of(path):
    with sqlite3.connect(path) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_half_a_surrogate_pair_which_servers_may_send_is_no_error(tmp_path):
    with Store(tmp_path / "samples.sqlite") as store:
        store.add_samples([sample(text="a \ud83d b")])
        assert [found.text for found in store.samples()] == ["a ? b"]


def test_moments_are_of_samples_that_are_defined(tmp_path):
    """Values 1, 2, 4: sum 7, squares 21, variance (21 − 49 / 3) / 2 = 7 / 3."""
    values = {0: [1.0, 2.0, 4.0], 1: [5.0], 2: [1.0, math.nan]}
    rows = [
        Metric("m", "t", doc, index, "x", value)
        for doc, given in values.items()
        for index, value in enumerate(given)
    ]
    with Store(tmp_path / "s.sqlite") as store:
        store.replace_metrics("t", [*rows, Metric("m", "t", 0, None, "x", 9.0)])
        found = store.moments("t", "m")
        assert store.moments("t", "other") == {}
    assert found["x"][0][:] == (3, 7, 21)
    assert found["x"][0].variance == pytest.approx(7 / 3)
    assert math.isnan(found["x"][1].variance)
    assert 2 not in found["x"]


def cross_score(doc, index, policy, kl=0.5, **more):
    numbers = {"entropy_sum_bits": 2.0, "nll_sum_bits": 3.0, "kl_back_sum_bits": 0.25}
    sums = {**numbers, "kl_sum_bits": kl, "js_sum_bits": 0.1}
    return CrossScore("high", "t", doc, index, policy, 4, **{**sums, **more})


def test_cross_scores_come_back_and_the_newest_of_a_key_counts(tmp_path):
    rows = np.float32([[0.1, 0.4], [1, 1]]).tobytes()
    given = [cross_score(0, 0, "normal", by_token=rows), cross_score(0, 1, "normal", math.nan)]
    with Store(tmp_path / "s.sqlite") as store:
        store.add_cross_scores([*given, cross_score(0, 0, "placebo")])
        first, second = store.cross_scores("t", "high", "normal")
        assert first == given[0]
        assert math.isnan(second.kl_sum_bits)
        store.add_cross_scores([replace(given[1], kl_sum_bits=2.0)])
        assert [score.kl_sum_bits for score in store.cross_scores("t", "high", "normal")] == [
            0.5,
            2.0,
        ]
        assert set(store.cross_scored("t", "high")) == {
            (0, 0, "normal"),
            (0, 1, "normal"),
            (0, 0, "placebo"),
        }
        store.forget_policy("normal")
        assert list(store.cross_scored("t", "high")) == [(0, 0, "placebo")]
        assert not list(store.cross_scored("t", "normal"))


def test_sums_of_cross_scores_are_by_doc_and_undefined_if_one_is(tmp_path):
    scores = [cross_score(0, 0, "normal", 0.5), cross_score(0, 1, "normal", 1.0)]
    lost = [cross_score(1, 0, "normal", math.nan), cross_score(1, 1, "normal", 1.0)]
    with Store(tmp_path / "s.sqlite") as store:
        store.add_cross_scores([*scores, *lost])
        first, second = store.cross_sums("t", "high")
        assert first == ("normal", 0, 2, 8, 4.0, 6.0, 1.5, 0.5, 0.2)
        assert math.isnan(second.kl_sum_bits)
        assert second.entropy_sum_bits == 4.0
