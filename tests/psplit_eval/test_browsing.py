"""Every sample is on one page of the list, searches find what reading finds, one sample has all."""

import json
import re
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import hostile
import judgeable
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.browsing import ROWS_A_PAGE, Filter, StoredSamples
from psplit_eval.errors import CorruptStoreError, InfrastructureError, UsageError
from psplit_eval.searching import folded, parsed
from psplit_eval.store import CrossScore, Store


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    return hostile.make_run(tmp_path_factory.mktemp("runs") / "hostile", long=False)


@pytest.fixture
def opened():
    made = []

    def build(folder):
        made.append(StoredSamples(folder))
        while made[-1].prepare("words", patience=30):
            pass
        return made[-1]

    yield build
    for samples in made:
        samples.close()


def every_row(samples, wanted=None):
    wanted = wanted or Filter()
    first = samples.page(wanted)
    pages = [samples.page(wanted, number) for number in range(1, first.pages + 1)]
    assert [page.number for page in pages] == list(range(1, first.pages + 1))
    assert all(len(page.rows) == ROWS_A_PAGE for page in pages[:-1])
    rows = [row for page in pages for row in page.rows]
    assert len(rows) == first.total
    return rows


def keys(rows):
    return [(row.mode, row.task, row.doc_id, row.sample_idx) for row in rows]


def stored(folder):
    with Store(folder / "samples.sqlite") as store:
        return {sample.key: sample for sample in store.samples()}


cells = st.dictionaries(
    st.tuples(
        st.sampled_from(["normal", "high", "third"]),
        st.sampled_from(["psplit_story", "sums"]),
        st.integers(-3, 40),
        st.integers(0, 5),
    ),
    st.tuples(st.sampled_from(["stop", "length", None]), st.text(max_size=8)),
    max_size=160,
)


@given(cells, st.sampled_from([None, "sums"]), st.sampled_from([None, "high"]))
@settings(max_examples=15)
def test_all_pages_together_have_every_wanted_sample_once(chosen, task, mode):
    with tempfile.TemporaryDirectory() as temporary:
        folder = judgeable.make_run(Path(temporary) / "run", tasks=("psplit_story", "sums"))
        more = [
            judgeable.sample(*key, "p", finish_reason=reason, text=text)
            for key, (reason, text) in chosen.items()
        ]
        with Store(folder / "samples.sqlite") as store:
            store.add_samples(more)
        samples = StoredSamples(folder)
        try:
            while samples.prepare(patience=30):
                pass
            found = keys(every_row(samples, Filter(task, mode)))
        finally:
            samples.close()
        wanted = [
            key for key in stored(folder) if task in (None, key[1]) and mode in (None, key[0])
        ]
        assert sorted(found) == sorted(wanted)
        order = {"normal": 0, "high": 1, "third": 2, "psplit_story": 0, "sums": 1}
        assert found == sorted(found, key=lambda k: (order[k[1]], k[2], k[3], order[k[0]]))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), lambda s: True),
        (Filter(doc=4), lambda s: s.doc_id == 4),
        (Filter(finish="length"), lambda s: s.finish_reason == "length"),
        (Filter(finish="missing", mode="high"), lambda s: s.error is not None and s.mode == "high"),
        (Filter(finish="scored"), lambda s: False),
        (Filter(task="no such"), lambda s: False),
        (Filter(mode="no such"), lambda s: False),
        (Filter(right=False, task="sums"), lambda s: s.task == "sums" and s.error is None),
        (Filter(right=True, task="psplit_story"), lambda s: False),
    ],
)
def test_filters(hostile_run, opened, wanted, fits):
    expected = [key for key, sample in stored(hostile_run).items() if fits(sample)]
    assert sorted(keys(every_row(opened(hostile_run), wanted))) == sorted(expected)


@pytest.mark.parametrize(
    "words",
    [
        "script",
        "故事",
        "事",
        "العربية",
        "עברית",
        "far below",
        '"never back"',
        "pwn*",
        "0 told",
        "\0",
    ],
)
def test_a_search_finds_what_reading_finds(hostile_run, opened, words):
    def read(sample):
        parts = [f" {folded(part or '')} " for part in (sample.text, sample.thought)]
        phrases = parsed(words).phrases
        return all(
            any(f" {' '.join(p.words)}" + ("" if p.open else " ") in part for part in parts)
            for p in phrases
        )

    expected = [key for key, sample in stored(hostile_run).items() if read(sample)]
    rows = every_row(opened(hostile_run), Filter(words=words))
    assert sorted(keys(rows)) == sorted(expected)
    assert len(expected) > 0
    if parsed(words).phrases and " " not in words:
        assert all(parsed(words).places(row.text) for row in rows)


def test_right_and_wrong_are_those_that_the_task_graded(tmp_path, opened):
    folder = judgeable.make_run(
        tmp_path / "run",
        scored=True,
        more=(judgeable.sample("high", "sums", 1, 0, "p", text="\\boxed{1}"),),
    )
    (right,) = every_row(opened(folder), Filter(right=True))
    assert (right.mode, right.task, right.doc_id, right.sample_idx) == ("high", "sums", 1, 0)


@pytest.mark.parametrize("number", [-5, 0, 1, 10**9])
def test_a_page_that_is_not_there_is_the_nearest(hostile_run, opened, number):
    page = opened(hostile_run).page(Filter(), number)
    assert page.number == (page.pages if number > 1 else 1)
    assert page.rows


def test_a_row_has_the_words_around_a_hit_or_the_beginning(tmp_path, opened):
    text = "begin " + "word " * 4_000 + "needle " + "word " * 4_000
    thought = "word " * 500 + "pondered"
    told = judgeable.sample("normal", "sums", 0, 0, "p", text=text, thought=thought)
    folder = judgeable.make_run(tmp_path / "run", tasks=("sums",), more=(told,))
    samples = opened(folder)
    (row,) = samples.page(Filter(words="needle")).rows
    assert "needle" in row.text
    assert row.cut == (True, True)
    (row,) = samples.page(Filter(words="pondered")).rows
    assert row.text.endswith("pondered")
    assert row.cut == (True, False)
    row = samples.page(Filter()).rows[0]
    assert row.text.startswith("begin word")
    assert row.cut == (False, True)
    other = samples.page(Filter()).rows[1]
    assert other.text == judgeable.story("high", 0, 0)
    assert other.cut == (False, False)


def test_a_long_text_is_not_read_whole_for_the_list(tmp_path, opened):
    text = "é" * 3_000_000
    told = judgeable.sample("normal", "sums", 0, 0, "p", text=text)
    folder = judgeable.make_run(tmp_path / "run", tasks=("sums",), more=(told,))
    row = opened(folder).page(Filter()).rows[0]
    assert set(row.text) == {"é"}
    assert len(row.text) < 1_000
    assert row.cut == (False, True)


def test_a_sample_has_everything_that_is_stored_of_it(hostile_run, opened):
    samples = opened(hostile_run)
    for key, sample in list(stored(hostile_run).items())[::7]:
        mode, task, doc, index = key
        view = samples.sample(mode, task, doc, index)
        for name in ("text", "thought", "error", "seed", "finish_reason", "entropy_sum_bits"):
            assert view.columns[name] == getattr(sample, name)
        text = hostile.TEXTS[doc]
        assert view.prompt == f"{hostile.MODES[mode] or ''}\n{text}"
        if task == "sums" and index < 2:
            assert dict(view.metrics)["correct"] == 0.0


def test_a_sample_has_its_cross_scores_and_what_judges_said(hostile_run, opened):
    with Store(hostile_run / "samples.sqlite") as store:
        score = CrossScore("high", "psplit_story", 2, 0, "normal", 9, 8.0, 7.0, 6.0, 5.0, 4.0)
        store.add_cross_scores([score])
    view = opened(hostile_run).sample("high", "psplit_story", 2, 0)
    (crossed,) = view.cross_scores
    assert (crossed["policy"], crossed["tokens"], crossed["kl_sum_bits"]) == ("normal", 9, 6.0)
    (said,) = view.judged
    assert (said.judge, said.rubric) == ("openai:<b>judge</b>", "story")
    assert set(said.verdict.values()) == {5.0}
    assert (said.reply, said.against) == (hostile.TEXTS[2], None)


def test_a_choice_is_shown_with_both_of_its_samples(tmp_path, opened):
    from psplit_eval.ledger import LEDGER, Call, Judgement, Ledger

    folder = judgeable.make_run(tmp_path / "run")
    with Ledger(folder / LEDGER) as ledger:
        ledger.introduce("j", {}, "r", {"name": "story"})
        call = Call("c", "j", "r", "choice", None, "no verdict", None, "hm", None, 1, 1, 1, 0.1, "")
        about = Judgement("j", "r", "choice", "sums", 1, "normal", 0, "high", 1, "c")
        ledger.add([call], [about])
    samples = opened(folder)
    (first,) = samples.sample("normal", "sums", 1, 0).judged
    assert (first.trouble, first.against) == ("no verdict", ("high", 1, False))
    (second,) = samples.sample("high", "sums", 1, 1).judged
    assert second.against == ("normal", 0, True)
    assert samples.sample("high", "sums", 1, 0).judged == []


def test_a_doc_has_its_samples_by_index_and_mode(hostile_run, opened):
    samples = opened(hostile_run)
    doc = samples.doc("psplit_story", 3, first=1, count=2)
    assert (doc.target, doc.modes) == (hostile.TEXTS[3], ["normal", "high"])
    assert list(doc.indices) == [0, 1, 2]
    assert [list(views) for views in doc.samples.values()] == [["normal", "high"]] * 2
    assert doc.samples[1]["high"].columns["text"] == judgeable.story("high", 3, 1)
    assert doc.prompts["normal"] == f"\n{hostile.TEXTS[3]}"
    assert "quality" in dict(doc.metrics["high"])
    assert (doc.before, doc.after) == (2, 4)
    last = len(hostile.TEXTS) - 1
    assert samples.neighbours("psplit_story", last) == (last - 1, None)
    assert samples.place("psplit_story", 3, 2) == 2
    assert samples.doc("psplit_story", 999) is None
    assert samples.doc("no such", 3) is None
    assert samples.sample("high", "sums", 3, 99) is None


def test_cells_count_every_sample(hostile_run, opened):
    found = {(cell.mode, cell.task): cell for cell in opened(hostile_run).cells()}
    docs = len(hostile.TEXTS)
    for cell in found.values():
        assert (cell.docs, cell.samples, cell.missing, cell.truncated) == (
            docs,
            docs * 3,
            docs,
            docs,
        )
        assert (cell.tokens, cell.bits) == (docs * 18, docs * 21.0)
    assert found["high", "sums"].graded == docs * 2
    assert found["high", "psplit_story"].graded == 0


def test_a_store_of_the_first_version_is_read_as_it_is(tmp_path, opened):
    from psplit_eval.store import MIGRATIONS

    folder = judgeable.make_run(tmp_path / "run")
    (folder / "samples.sqlite").unlink()
    with sqlite3.connect(folder / "samples.sqlite") as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        db.execute("INSERT INTO docs VALUES ('sums', 0, '', '{}', '7')")
        db.execute(
            "INSERT INTO samples (mode, task, doc_id, sample_idx, doc_hash, request_hash, "
            "prompt_hash, seed, attempt, text, finish_reason, prompt_tokens, seconds, created_at) "
            "VALUES ('high', 'sums', 0, 0, '', '', '', 1, 1, 'old', 'stop', 1, 1, '')"
        )
    db.close()
    samples = opened(folder)
    assert [row.text for row in every_row(samples)] == ["old"]
    assert samples.sample("high", "sums", 0, 0).columns["text"] == "old"
    assert samples.doc("sums", 0).target == "7"


def test_what_is_no_run_or_cannot_be_read(tmp_path, opened):
    with pytest.raises(UsageError, match="no run"):
        StoredSamples(tmp_path)
    folder = judgeable.make_run(tmp_path / "run")
    (folder / "samples.sqlite").write_bytes(b"no database" * 999)
    with pytest.raises(CorruptStoreError):
        StoredSamples(folder)


def test_a_damaged_list_says_what_to_delete(tmp_path, opened):
    folder = judgeable.make_run(tmp_path / "run")
    samples = opened(folder)
    (samples.indexes.folder / "list.sqlite").write_bytes(b"no database" * 999)
    with pytest.raises(InfrastructureError, match=re.escape(str(samples.indexes.folder))):
        samples.page(Filter())


def test_a_shard_can_be_looked_at(tmp_path, opened):
    folder = judgeable.make_run(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shard"] = {"index": 1, "count": 2, "plan": "x", "asked": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert every_row(opened(folder))


def test_numbers_of_the_leaderboard_are_there_once_the_run_is_reported(tmp_path, opened):
    folder = judgeable.make_run(tmp_path / "run")
    samples = opened(folder)
    assert samples.values() == []
    (folder / "leaderboard.csv").write_text("model,mode,value\nm,high,0.5\n")
    assert samples.values() == [{"model": "m", "mode": "high", "value": "0.5"}]


def test_a_failed_sample_shows_its_error(tmp_path, opened):
    failed = replace(
        judgeable.sample("normal", "sums", 0, 0, "p"), text=None, thought=None, error="server gone"
    )
    folder = judgeable.make_run(tmp_path / "run", tasks=("sums",), more=(failed,))
    row = opened(folder).page(Filter(finish="missing")).rows[0]
    assert (row.text, row.right) == ("server gone", None)
