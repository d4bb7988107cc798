"""What it costs to look at a big run: `psplit-eval view` on made-up samples.

    python benchmarks/viewing.py                     # 200 000 and 1 000 000 samples
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
import random
import re
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
MODES, TASKS, INDICES = ("normal", "high"), ("answers", "stories"), 8
COLUMNS = ("samples", "step", "wall_seconds", "peak_mb", "file_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--folder", type=Path, help="keep the run here, and use it if it is there")
    options = parser.parse_args()
    rows = []
    for size in [options.samples] if options.samples else SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary) / "run"
            if not folder.exists():
                make_run(folder, size)
            rows += [{"samples": size, **row} for row in measured(folder, size)]
            for row in rows[-12:]:
                print(row, flush=True)
    if not options.samples:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def make_run(folder: Path, size: int) -> None:
    folder.mkdir(parents=True)
    docs = size // (len(MODES) * len(TASKS) * INDICES)
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
    (folder / "manifest.json").write_text(json.dumps(manifest(docs)))


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
    command = [sys.executable, "-m", "psplit_eval.cli", "view", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = re.search(r"http://\S+", next(filter(None, server.stdout)))
        assert address is not None
        visitor = Visitor(address[0])
        visitor.page("/")
        yield {"step": "start and first page", "wall_seconds": time.perf_counter() - begun}
        begun = time.perf_counter()
        visitor.whole("/samples")
        yield {
            "step": "the list, made on the first visit",
            "wall_seconds": time.perf_counter() - begun,
            "file_mb": megabytes(folder / ".view" / "list.sqlite"),
        }
        yield from visitor.timed(PAGES, size)
        begun = time.perf_counter()
        visitor.whole("/samples?words=number7")
        yield {
            "step": "the index of words, made for the first search",
            "wall_seconds": time.perf_counter() - begun,
            "file_mb": megabytes(folder / ".view" / "words.sqlite"),
        }
        yield from visitor.timed(SEARCHES, size)
        yield {"step": "memory of all that", "peak_mb": peak(server.pid)}
    finally:
        server.terminate()
        server.wait()


PAGES = {
    "overview": "/",
    "first page of all samples": "/samples",
    "page {last}, the last": "/samples?page={last}",
    "one task, mode and finish": "/samples?task=stories&mode=high&finish=length",
    "wrong ones": "/samples?task=answers&right=no",
    "wrong ones, page {middle}": "/samples?right=no&page={middle}",
    "a doc": "/doc?task=stories&doc=17",
    "a sample": "/sample?task=stories&doc=17&mode=high&sample=3",
}
SEARCHES = {
    "a word in few samples": "/samples?words=number17",
    "a word in every second sample, page {middle}": "/samples?words=normal3*+normal*&page={middle}",
    "a phrase, and wrong": "/samples?words=%22number17+normal3%22&right=no",
    "two Chinese characters": "/samples?words=%E4%B8%AD%E5%9B%BD",
}


class Visitor:
    """A browser without a window."""

    def __init__(self, address: str) -> None:
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
            begun = time.perf_counter()
            self.page(path.format(**number))
            seconds = time.perf_counter() - begun
            yield {"step": step.format(**number), "wall_seconds": round(seconds, 3)}


def megabytes(path: Path) -> int:
    return round(path.stat().st_size / 1e6)


def peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return round(int(found[1]) / 1e3)


if __name__ == "__main__":
    main()
