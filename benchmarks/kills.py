"""Kill a run at random points, go on, and compare with a run that was left alone.

    python benchmarks/kills.py 20

Each of the given number of times: start the same evaluation (SmolLM2-135M, float32, CPU), send it
SIGKILL at a moment drawn uniformly from the time it needs (moments after its end do not count),
give the same command again, and compare all that the store holds of every sample, sums of entropies
included, with the undisturbed run.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from psplit_eval.store import Store

RESULTS = Path(__file__).parent / "results" / "kills.csv"
WORK = (
    *("run", "--model", "smollm2-135m", "--modes", "normal,high", "--tasks", "psplit_sums"),
    *("--limit", "16", "--samples", "4", "--batch-size", "8"),
)
BY_CLOCK = ("seconds", "created_at")


def main() -> None:
    times = int(sys.argv[1])
    numbers = random.Random(2026)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.monotonic()
        assert start(folder / "alone").wait() == 0
        duration = time.monotonic() - started
        expected = samples(folder / "alone")
        rows: list[dict[str, object]] = []
        while len(rows) < times:
            row = killed(folder / "killed", numbers.uniform(0, duration))
            rows += [row] if row else []
    for row in rows:
        row["equal"] = row.pop("samples") == expected
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    equal = sum(bool(row["equal"]) for row in rows)
    print(f"{equal} of {times} equal the undisturbed run of {len(expected)} samples")


def killed(out: Path, moment: float) -> dict[str, object] | None:
    """What became of a run that was killed at a moment; None where it had ended before."""
    process = start(out)
    time.sleep(moment)
    if process.poll() is not None:
        shutil.rmtree(out)
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = len(samples(out))
    assert start(out).wait() == 0
    found = samples(out)
    shutil.rmtree(out)
    print(f"killed at {moment:.1f} s with {stored} samples stored", flush=True)
    return {"killed_at_seconds": round(moment, 1), "stored": stored, "samples": found}


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "psplit_eval.cli", *WORK, "--out", str(out)]
    quiet = subprocess.DEVNULL
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, env=one)


def samples(out: Path) -> dict[tuple[object, ...], dict[str, object]]:
    if not (out / "samples.sqlite").is_file():
        return {}
    with Store(out / "samples.sqlite") as store:
        return {
            sample.key: {k: v for k, v in asdict(sample).items() if k not in BY_CLOCK}
            for sample in store.samples()
        }


if __name__ == "__main__":
    main()
