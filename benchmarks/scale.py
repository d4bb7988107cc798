"""What a million samples cost: drawing, going on, joining, scoring, reporting, exporting.

    python benchmarks/scale.py                   # 10 000, 100 000 and 1 000 000, then the table
    python benchmarks/scale.py --samples 20000   # one size of your own; not kept
    python benchmarks/scale.py table             # the table alone

The samples are made up: texts and token ids of real length, put together from a fixed list of
sentences by each request's seed. All else is psplit's own: `run` plans, cuts groups and stores with
an engine that answers at once in the place of a model; its folder is a shard, 1 of 1, which `merge`
joins. Two modes, five tasks, 8 samples a doc. Each step is a process of its own, measured in
processor and wall seconds and by its largest memory (of one process, where a step has several).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "scale.csv"
SIZES = (10_000, 100_000, 1_000_000)
TASKS = ("psplit_sums", "psplit_reading", "psplit_gsm8k", "psplit_math500", "psplit_story")
BOXED = ("psplit_gsm8k", "psplit_math500")
MODES = ("normal", "high")
SAMPLES_A_DOC = 8
STEPS = ("draw", "go on", "merge", "score", "report", "export")
COLUMNS = ("samples", "step", "cpu_seconds", "wall_seconds", "peak_mb", "file_mb", "last_to_first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "table", "draw"), default="all")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    options = parser.parse_args()
    if options.what == "draw":
        draw(options.folder, options.samples)
        return
    if options.what == "all" and options.samples:
        print(table(list(measured(options.samples, options.folder))))
        return
    if options.what == "all":
        for size in SIZES:
            if not any(int(row["samples"]) == size for row in rows()):
                keep(list(measured(size, options.folder)))
    print(table(rows()))


def rows() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def keep(found: Sequence[dict[str, Any]]) -> None:
    new = not RESULTS.is_file()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(found)


def measured(size: int, place: Path | None) -> Iterator[dict[str, Any]]:
    """Every step with `size` samples, one after the other on the same run."""
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder = Path(scratch)
        make_rows(folder, size)
        shard, run = str(folder / "shard"), str(folder / "run")
        drawing = [__file__, "draw", "--folder", str(folder), "--samples", str(size)]
        psplit = ["-m", "psplit_eval.cli"]
        commands = {
            "draw": drawing,
            "go on": drawing,
            "merge": [*psplit, "merge", shard, "--out", run],
            "score": [*psplit, "score", run],
            "report": [*psplit, "report", run],
            "export": [*psplit, "export", run, "--out", str(folder / "samples.parquet")],
        }
        for step in STEPS:
            row = {"samples": size, "step": step, **cost([sys.executable, *commands[step]])}
            if step == "draw":
                marks = json.loads((folder / "marks.json").read_text())
                row["last_to_first"] = round(marks[-1] / marks[0], 2)
            file = {"draw": folder / "shard", "score": folder / "run"}.get(step)
            if file:
                row["file_mb"] = round((file / "samples.sqlite").stat().st_size / 1e6, 1)
            print(row, flush=True)
            yield row


def cost(command: Sequence[str]) -> dict[str, Any]:
    """Run a process; what it and the processes that it waited for took."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)}\n{said.read().decode()}")
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


# Made-up questions. The right answer is the sum of the two numbers in a question, for every second
# one of psplit_math500 over 7.


def make_rows(folder: Path, size: int) -> None:
    docs = max(1, size // (len(TASKS) * len(MODES) * SAMPLES_A_DOC))
    for task in TASKS:
        lines = (json.dumps(row(task, number)) for number in range(docs))
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n")


def row(task: str, number: int) -> dict[str, Any]:
    a, b = 10 + number // 90, 10 + number % 90
    asked, answer = f"There are {a} and {b}. How many are there in all?", str(a + b)
    return {
        "psplit_sums": {"a": a, "b": b, "answer": answer},
        "psplit_reading": {"story": f"There are {a} and {b}.", "question": "?", "answer": answer},
        "psplit_gsm8k": {"question": asked, "answer": f"#### {answer}"},
        "psplit_math500": {"problem": asked, "answer": right_answer(task, a, b)},
        "psplit_story": {"premise": asked},
    }[task]


def right_answer(task: str, a: int, b: int) -> str:
    unlike = 1000 * a + b  # no two docs have the same answer, so none is known already
    return rf"\frac{{{unlike}}}{{7}}" if task == "psplit_math500" and b % 2 else str(a + b)


class MadeUp:
    """An engine that answers at once: right in six of ten cases, else with one of four answers."""

    context_length = 8192
    can_score = False

    def __init__(self) -> None:
        rng = random.Random(0)
        words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=n)) for n in range(2, 9)] * 60
        words = [word + rng.choice(("", "s", "ed", "ing", "er")) for word in words]
        self._sentences = [" ".join(rng.choices(words, k=14)).capitalize() for _ in range(1024)]
        self._ids = [tuple(rng.randrange(50_000) for _ in range(19)) for _ in range(1024)]

    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        said = "".join(f"<{m['role']}>\n{m['content']}\n" for m in messages)
        return f"{said}<assistant>\n" if add_generation_prompt else said

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(len(word) for word in text.split())

    def groups(self, requests: Iterable[Any]) -> list[list[Any]]:
        from psplit_eval.requests import work_groups

        return work_groups(requests, 16384, 64)

    def run(self, groups: Sequence[Sequence[Any]], watch: Any) -> Iterator[list[Any]]:
        for group in groups:
            yield [(request, self._answer(request)) for request in group]
            watch(0, len(group))

    def _answer(self, request: Any) -> Any:
        from psplit_eval.backends import Completion

        seed = request.seed
        chosen = [(seed >> 5 * i) & 1023 for i in range(8 + seed % 5)]
        text = ". ".join(self._sentences[i] for i in chosen)
        ids = tuple(token for i in chosen for token in self._ids[i])
        a, b = map(int, re.findall(r"\d+", request.prompt)[-2:])
        if seed % 10 > 5:
            a += 2 * (1 + seed % 4)
        answer = right_answer(request.task, a, b)
        boxed = rf"\boxed{{{answer}}}" if request.task in BOXED else answer
        return Completion(
            text=f"{text}. So it is {boxed}.",
            finish_reason="length" if seed % 97 == 0 else "stop",
            ids=ids,
            tokens=len(ids),
            nll_sum_nats=1.5 * len(ids),
            seconds=0.0,
            entropy_sum_bits=(2 + seed % 100 / 100) * len(ids),
        )

    def describe(self) -> dict[str, Any]:
        about = {"dtype": "none", "device": "none", "chat_template": None, "parameters": 0}
        return {"backend": "made up", **about}


def draw(folder: Path, size: int) -> None:
    """`psplit-eval run --shard 1/1` with the made-up engine; keeps seconds per tenth of it."""
    from psplit_eval.checkpoints import Checkpoint
    from psplit_eval.requests import Shard
    from psplit_eval.run import RunOptions, Screen, run
    from psplit_eval.suites import TaskSettings

    class Marks(Screen):
        @contextmanager
        def sampling(self, total: int, done: int) -> Iterator[Any]:
            seen, marks = 0, []

            def watch(_: int, samples: int) -> None:
                nonlocal seen
                seen += samples
                if seen >= len(marks) * total / 10:
                    marks.append(time.process_time())

            yield watch
            if total:
                tenths = [after - before for before, after in pairwise(marks)]
                (folder / "marks.json").write_text(json.dumps(tenths))

    options = RunOptions(
        model="made-up",
        modes=MODES,
        tasks=TASKS,
        data={task: folder / f"{task}.jsonl" for task in TASKS},
        settings={"": TaskSettings(samples=SAMPLES_A_DOC, sampling={"max_tokens": 512})},
        out=folder / "shard",
        shard=Shard(1, 1),
    )
    checkpoint = Checkpoint("made-up", folder, {})
    with (
        mock.patch("psplit_eval.run.check_engine"),
        mock.patch("psplit_eval.run.find_model", return_value=checkpoint),
        mock.patch("psplit_eval.run.open_backend", return_value=MadeUp()),
    ):
        run(options, Marks())


def table(found: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| samples | step | CPU s | wall s | samples / CPU s | peak memory | store |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        size, cpu = int(row["samples"]), float(row["cpu_seconds"])
        file = f"{float(row['file_mb']):,.0f} MB" if row.get("file_mb") else ""
        rate = f"{size / cpu:,.0f}"
        cells = (row["step"], cpu, row["wall_seconds"], rate, f"{row['peak_mb']} MB", file)
        lines.append(f"| {size:,} | " + " | ".join(map(str, cells)) + " |")
    for row in found:
        if row.get("last_to_first"):
            size = int(row["samples"])
            lines.append(f"\nThe last tenth of {size:,} took {row['last_to_first']} × the first's.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
