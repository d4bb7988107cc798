"""A run's list and index: made once, made again when the store changed, never in the run's way."""

import os
import sqlite3
import threading
import time

import pytest

from psplit_eval.errors import InfrastructureError
from psplit_eval.indexes import FINISHES, FOLDER, Indexes
from psplit_eval.store import Doc, Metric, Sample, Store


def sample(mode="a", doc=0, index=0, text="words", reason="stop", error=None, task="t", **more):
    made = {"thought": None, "tokens": 4, "bits": 8.0, "attempt": 1} | more
    return Sample(
        *(mode, task, doc, index, "h", f"{mode}{doc}.{index}", "p", 1, made["attempt"], text),
        *(made["thought"], (1, 2), reason, 5, made["tokens"], made["bits"], 1.0, error, 0.1),
        "2026-01-01T00:00:00+00:00",
    )


def write(path, *samples, metrics=()):
    with Store(path) as store:
        store.add_plan([], [Doc("t", doc, "h", {}, "1") for doc in range(9)])
        store.add_samples(samples)
        if metrics:
            store.replace_metrics("t", metrics)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "samples.sqlite"
    write(
        path,
        sample("b", 1, 0, "two doors", "length"),
        sample("a", 1, 0, None, None, "gone", tokens=None, bits=None),
        sample("a", 0, 1, "a red door"),
        sample("a", 0, 0, "nothing", thought="the door is shut"),
        metrics=[
            Metric("a", "t", 0, 0, "correct", 1.0),
            Metric("a", "t", 0, 1, "correct", 0.0),
            Metric("a", "t", 1, 0, "correct", 0.0),
            Metric("a", "t", 0, None, "correct", 0.5),
        ],
    )
    return path


@pytest.fixture
def opened():
    made = []

    def build(path, calm=0.0):
        made.append(Indexes(path, ["t"], ["b", "a"], {"t": "correct"}, calm))
        return made[-1]

    yield build
    for indexes in made:
        indexes.close()


def ready(indexes, words=False):
    while indexes.prepare(words, patience=30):
        pass


def rows(indexes, query="SELECT task, doc_id, sample_idx, mode, finish, correct FROM listed"):
    with indexes.opened() as db:
        return db.execute(query).fetchall()


def found(indexes, words):
    query = (
        "SELECT doc_id, sample_idx, mode FROM listed "
        "WHERE sample IN (SELECT rowid FROM found.words WHERE words MATCH ?)"
    )
    with indexes.opened() as db:
        return db.execute(query, (words,)).fetchall()


def test_samples_are_listed_by_task_doc_index_and_mode_in_the_order_given(store, opened):
    indexes = opened(store)
    ready(indexes)
    stop, length, missing = (FINISHES.index(name) for name in ("stop", "length", "missing"))
    assert rows(indexes) == [
        (0, 0, 0, 1, stop, 1),
        (0, 0, 1, 1, stop, 0),
        (0, 1, 0, 0, length, None),
        (0, 1, 0, 1, missing, None),
    ]


def test_cells_are_counted(store, opened):
    indexes = opened(store)
    ready(indexes)
    assert rows(indexes, "SELECT * FROM cells") == [
        (0, 0, 1, 1, 0, 1, 0, 0, 4, 4, 8.0),
        (0, 1, 2, 3, 1, 0, 2, 1, 8, 8, 16.0),
    ]


def test_words_are_found_in_texts_and_thoughts(store, opened):
    indexes = opened(store)
    ready(indexes, words=True)
    assert found(indexes, '"door"') == [(0, 0, 1), (0, 1, 1)]


def test_files_are_kept_and_made_again_when_the_store_has_changed(store, opened):
    first = opened(store)
    ready(first, words=True)
    files = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    second = opened(store)
    ready(second, words=True)
    assert {path.name: path.stat().st_mtime_ns for path in second.folder.iterdir()} == files
    write(store, sample("b", 2, 0, "a third door"))
    ready(second, words=True)
    assert len(rows(second)) == 5
    assert (2, 0, 0) in found(second, '"door"')


def test_a_failed_sample_that_was_drawn_again_is_found(store, opened):
    indexes = opened(store)
    ready(indexes, words=True)
    write(store, sample("a", 1, 0, "at last a door", attempt=2))
    ready(indexes, words=True)
    assert (1, 0, 1) in found(indexes, '"at last"')


def test_new_scores_leave_the_index_of_words_as_it_is(store, opened):
    indexes = opened(store)
    ready(indexes, words=True)
    before = (indexes.folder / "words.sqlite").stat().st_mtime_ns
    write(store, metrics=[Metric("a", "t", 0, 0, "correct", 0.0)])
    ready(indexes, words=True)
    assert rows(indexes)[0][-1] == 0
    assert (indexes.folder / "words.sqlite").stat().st_mtime_ns == before


def test_a_run_that_is_being_written_is_not_listed_again_at_every_turn(store, opened):
    indexes = opened(store, calm=1e6)
    ready(indexes)
    write(store, sample("b", 3, 0, "new"))
    ready(indexes)
    assert len(rows(indexes)) == 4


def test_the_store_is_not_written_and_nothing_else_lies_in_the_run(store, opened):
    before = (store.read_bytes(), store.stat().st_mtime_ns)
    ready(opened(store), words=True)
    assert (store.read_bytes(), store.stat().st_mtime_ns) == before
    assert sorted(path.name for path in store.parent.iterdir()) == [FOLDER, "samples.sqlite"]


def test_a_run_can_write_while_it_is_indexed(tmp_path, opened):
    path = tmp_path / "samples.sqlite"
    many = [sample("a", doc, index, "word " * 300) for doc in range(9) for index in range(400)]
    write(path, *many)
    indexes = opened(path)
    assert indexes.prepare(words=True, patience=0) is not None
    for index in range(20):
        begun = time.monotonic()
        write(path, sample("b", 0, index, "new"))
        assert time.monotonic() - begun < 5
    ready(indexes, words=True)
    assert len(rows(indexes)) == 3_620


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough" * 99])
def test_damaged_files_are_made_again(store, opened, content):
    indexes = opened(store)
    ready(indexes, words=True)
    for name in ("list", "words"):
        (indexes.folder / f"{name}.sqlite").write_bytes(content)
    ready(indexes, words=True)
    assert len(rows(indexes)) == 4
    assert found(indexes, '"door"')


def test_what_a_killed_viewer_left_goes_after_a_while(store, opened):
    indexes = opened(store)
    for name, age in (("list.1.1.new", 7_200), ("list.2.2.new", 10)):
        left = indexes.folder / name
        left.write_bytes(b"")
        os.utime(left, (time.time() - age,) * 2)
    ready(indexes)
    assert {path.name for path in indexes.folder.iterdir()} == {"list.2.2.new", "list.sqlite"}


def test_a_folder_that_cannot_be_written_is_left_alone(store, opened):
    (store.parent / FOLDER).write_bytes(b"a file in the way, as root may write anywhere")
    indexes = opened(store)
    ready(indexes, words=True)
    assert len(rows(indexes)) == 4
    assert store.parent not in indexes.folder.parents
    indexes.close()
    assert not indexes.folder.exists()


def test_a_store_that_cannot_be_read_says_so_and_is_tried_again(store, opened):
    indexes = opened(store)
    content = store.read_bytes()
    store.write_bytes(b"no database" * 999)
    for _ in range(2):
        with pytest.raises(InfrastructureError, match=r"samples\.sqlite"):
            ready(indexes)
    store.write_bytes(content)
    ready(indexes)
    assert len(rows(indexes)) == 4


def test_the_oldest_stores_are_read(tmp_path, opened):
    from psplit_eval.store import MIGRATIONS

    path = tmp_path / "samples.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        db.execute(
            "INSERT INTO samples (mode, task, doc_id, sample_idx, doc_hash, request_hash, "
            "prompt_hash, seed, attempt, text, finish_reason, prompt_tokens, seconds, created_at) "
            "VALUES ('a', 't', 0, 0, '', '', '', 1, 1, 'old door', 'stop', 1, 1, '')"
        )
    db.close()
    indexes = opened(path)
    ready(indexes, words=True)
    assert found(indexes, '"door"') == [(0, 0, 1)]


def test_an_empty_store_has_an_empty_list(tmp_path, opened):
    path = tmp_path / "samples.sqlite"
    sqlite3.connect(path).close()
    path.touch()
    indexes = opened(path)
    ready(indexes, words=True)
    assert rows(indexes) == []


def test_names_that_the_manifest_lacks_come_last(store, opened):
    write(store, sample("new", 0, 0, "x", task="other"))
    indexes = opened(store)
    ready(indexes)
    assert rows(indexes)[-1][:4] == (1, 0, 0, 2)
    assert rows(indexes, "SELECT value FROM about WHERE name = 'names'") == [
        ('[["t", "other"], ["b", "a", "new"]]',)
    ]


def test_several_threads_build_one_file(store, opened):
    indexes = opened(store)
    threads = [threading.Thread(target=ready, args=(indexes, True)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(indexes)) == 4


def test_closing_stops_what_is_being_built(tmp_path, opened):
    path = tmp_path / "samples.sqlite"
    write(path, *(sample("a", 0, i, "word " * 2_000) for i in range(800)))
    indexes = opened(path)
    indexes.prepare(words=True, patience=0.05)
    indexes.close()
    assert not list(indexes.folder.glob("*.new"))
