"""What it costs to look at a big run: `psplit-eval view` on made-up samples.

    python benchmarks/viewing.py                     # 200 000 and 1 000 000 samples, then the table
    python benchmarks/viewing.py --samples 20000     # one size of your own; not kept

Samples of about 800 characters, put together from made-up sentences (seeded), in every tenth a
Chinese one; two modes, two tasks, 8 samples a doc. The server is a process of its own; pages are
asked for over HTTP, as a browser does, and timed until their last byte. Its memory is the largest
that it ever had (VmHWM).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

from psplit_eval.accuracy import AnswerFormat
from psplit_eval.manifest import new_manifest
from psplit_eval.scoring import AccuracyScorer
from psplit_eval.store import Doc, Metric, Prompt, Sample, Store

RESULTS = Path(__file__).parent / "results" / "viewing.csv"
SIZES = (200_000, 1_000_000)
AT_MOST = 200_000
MODES, TASKS, INDICES = ("normal", "high"), ("answers", "stories"), 8
COLUMNS = ("samples", "step", "cpu_seconds", "wall_seconds", "peak_mb", "file_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int)
    parser.add_argument(
        "--folder", type=Path, help="where runs are made and kept (a temporary one)"
    )
    options = parser.parse_args()
    if options.samples:
        print(table(list(measured_in(options.folder, options.samples))))
        return
    for size in SIZES:
        if not any(int(row["samples"]) == size for row in kept()):
            keep([*kept(), *measured_in(options.folder, size)])
    print(table(kept()))


def measured_in(folder: Path | None, size: int) -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as temporary:
        run = (folder or Path(temporary)) / f"run{size}"
        if not run.exists():
            make_run(run, size)
        for row in measured(run, size):
            yield {"samples": size, **row}


def kept() -> list[dict[str, object]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def keep(rows: list[dict[str, object]]) -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| samples | step | CPU s | wall s | memory | file |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{int(str(row['samples'])):,}", row["step"]]
        cells += [row.get(name) or "" for name in ("cpu_seconds", "wall_seconds")]
        cells += [f"{row[n]} MB" if row.get(n) else "" for n in ("peak_mb", "file_mb")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def make_run(folder: Path, size: int) -> None:
    """The first `AT_MOST` samples are made by psplit's store; more are copies of them as other
    docs, since only their number matters, not their making."""
    folder.mkdir(parents=True)
    docs = min(size, AT_MOST) // (len(MODES) * len(TASKS) * INDICES)
    random.seed(1)
    sentences = list(made_sentences())
    with Store(folder / "samples.sqlite") as store:
        for task in TASKS:
            for start in range(0, docs, 250):
                block = range(start, min(start + 250, docs))
                store.add_plan(
                    [Prompt(f"{task}{doc}", m, f"Tell {doc}.", ()) for doc in block for m in MODES],
                    [Doc(task, doc, "h", {"about": f"number {doc}"}, "1") for doc in block],
                )
                store.add_samples(made_samples(task, block, sentences))
            store.replace_metrics(task, made_metrics(task, docs))
    times = -(-size // AT_MOST)
    if times > 1:
        multiply(folder / "samples.sqlite", docs, times)
    docs *= times
    (folder / "manifest.json").write_text(json.dumps(manifest(docs)))


def multiply(path: Path, docs: int, times: int) -> None:
    """Copy everything so many times, with doc ids that go on."""
    with sqlite3.connect(path) as db:
        for table in ("docs", "samples", "metrics"):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            shifted = ", ".join("doc_id + ?" if name == "doc_id" else name for name in names)
            for copy in range(1, times):
                found = f"SELECT {shifted} FROM {table} WHERE doc_id < {docs}"
                db.execute(f"INSERT INTO {table} ({', '.join(names)}) {found}", (docs * copy,))
    db.close()


def made_sentences() -> Iterator[str]:
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(random.choices(letters, k=random.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 2) for rank in range(20_000)]
    for _ in range(8_000):
        yield " ".join(random.choices(words, weights, k=random.randint(6, 18))) + ". "


def made_samples(task: str, docs: range, sentences: list[str]) -> Iterator[Sample]:
    signs = "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可"
    ids = tuple(range(1_000, 1_180))
    for doc in docs:
        for mode in MODES:
            for index in range(INDICES):
                text = "".join(random.choices(sentences, k=random.randint(6, 16)))
                if random.random() < 0.1:
                    text += "".join(random.choices(signs, k=40)) + "。"
                text += f"number{doc} {mode}{index}"
                reason = "length" if random.random() < 0.01 else "stop"
                yield Sample(
                    *(mode, task, doc, index, "h", f"{mode}{task}{doc}.{index}", f"{task}{doc}"),
                    *(1, 1, text, None, ids, reason, 20, 180, random.uniform(50, 400), 90.0, None),
                    *(1.0, "2026-01-01T00:00:00+00:00"),
                )


def made_metrics(task: str, docs: int) -> Iterator[Metric]:
    names = ("correct", "truncated") if task == "answers" else ("truncated", "mtld")
    for mode in MODES:
        for name in names:
            for doc in range(docs):
                for index in range(INDICES):
                    yield Metric(mode, task, doc, index, name, float(random.random() < 0.6))


def manifest(docs: int) -> dict[str, object]:
    scorers = {
        "answers": AccuracyScorer(AnswerFormat()).to_dict(),
        "stories": {"kind": "diversity"},
    }
    entry = {"sampling": {}, "samples": INDICES, "docs": docs, "docs_in_all": docs}
    return new_manifest(
        {
            "command": ["benchmarks/viewing.py"],
            "checkpoint": {"name": "made"},
            "model": {"backend": "none"},
            "modes": [
                {"name": name, "system_prompt": None, "role": name, "sampling": {}}
                for name in MODES
            ],
            "suite": None,
            "tasks": {task: {**entry, "title": task, "scorer": scorers[task]} for task in TASKS},
            "pools": {},
            "base_seed": 0,
            "batch_size": None,
        }
    )


def measured(folder: Path, size: int) -> Iterator[dict[str, object]]:
    """Every step once, in the order of a first visit."""
    for old in (folder / ".view").glob("*"):
        old.unlink()
    yield {"step": "store", "file_mb": megabytes(folder / "samples.sqlite")}
    begun = time.perf_counter()
    run = "import sys; from psplit_eval.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "view", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = re.search(r"http://\S+", next(filter(None, server.stdout)))
        assert address is not None
        visitor = Visitor(address[0], server.pid)
        visitor.page("/")
        yield {"step": "start and first page", **spent(server.pid, 0.0, begun)}
        visitor.whole("/samples")
        size_of_list = megabytes(folder / ".view" / "list.sqlite")
        all_listed = {"step": "start, until all samples are listed", "file_mb": size_of_list}
        yield all_listed | spent(server.pid, 0.0, begun)
        yield from visitor.timed(PAGES, size)
        used, begun = cpu(server.pid), time.perf_counter()
        visitor.whole("/samples?words=number7")
        size_of_words = megabytes(folder / ".view" / "words.sqlite")
        indexed = {"step": "the index of words, for the first search", "file_mb": size_of_words}
        yield indexed | spent(server.pid, used, begun)
        yield from visitor.timed(SEARCHES, size)
        yield {"step": "memory of all that", "peak_mb": peak(server.pid)}
    finally:
        server.terminate()
        server.wait()


PAGES = {
    "overview": "/",
    "first page of all samples": "/samples",
    "page {last:,}, the last": "/samples?page={last}",
    "one task, mode and finish": "/samples?task=stories&mode=high&finish=length",
    "wrong ones": "/samples?task=answers&right=no",
    "wrong ones, page {middle:,}": "/samples?right=no&page={middle}",
    "a doc": "/doc?task=stories&doc=17",
    "a sample": "/sample?task=stories&doc=17&mode=high&sample=3",
}
SEARCHES = {
    "a word in few samples": "/samples?words=number17",
    "a word that every second sample has, page {middle:,}": "/samples?words=normal*&page={middle}",
    "a phrase, and wrong": "/samples?words=%22number17+normal3%22&right=no",
    "two Chinese characters": "/samples?words=%E4%B8%AD%E5%9B%BD",
}


class Visitor:
    """A browser without a window."""

    def __init__(self, address: str, server: int) -> None:
        self._server = server
        self._root = address.split("/?")[0]
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        self._opener.open(address).read()

    def page(self, path: str) -> str:
        return str(self._opener.open(self._root + path, timeout=600).read().decode())

    def whole(self, path: str) -> None:
        """The page itself, after all that say that something is being made."""
        while 'http-equiv="refresh"' in self.page(path):
            time.sleep(0.2)

    def timed(self, pages: dict[str, str], size: int) -> Iterator[dict[str, object]]:
        number = {"last": size // 50, "middle": size // 500}
        for step, path in pages.items():
            used, begun = cpu(self._server), time.perf_counter()
            self.page(path.format(**number))
            yield {"step": step.format(**number), **spent(self._server, used, begun)}


def spent(server: int, used: float, begun: float) -> dict[str, object]:
    """Processor seconds of the server, and wall seconds of the visitor."""
    wall = round(time.perf_counter() - begun, 2)
    return {"cpu_seconds": round(cpu(server) - used, 2), "wall_seconds": wall}


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(path: Path) -> int:
    return round(path.stat().st_size / 1e6)


def peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return round(int(found[1]) / 1e3)


if __name__ == "__main__":
    main()
