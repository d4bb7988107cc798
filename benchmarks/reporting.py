"""What the report of a big run weighs, and how long a browser takes to open it.

    python -m benchmarks.reporting                    # 200 000 samples, then the table
    python -m benchmarks.reporting --samples 20000    # another size; not kept

The samples are those of `benchmarks.viewing`, graded as answers. The page is opened from disk in a
headless Chromium, five times, each in a profile of its own; it is open when all is laid out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.viewing import make_run
from psplit_eval.rescoring import NONE
from psplit_eval.stored import report_run, score_run

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import started, visited

RESULTS = Path(__file__).parent / "results" / "reporting.csv"
SIZE, TIMES = 200_000, 5
COLUMNS = ("samples", "report_cpu_seconds", "page_mb", "open_seconds", "open_seconds_worst")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=SIZE)
    options = parser.parse_args()
    row = measured(options.samples)
    if options.samples == SIZE:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerow(row)
    print(" ".join(f"{name} {row[name]}" for name in COLUMNS))


def measured(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        make_run(run, size)
        made = json.loads((run / "manifest.json").read_text())
        made["checkpoint"] |= {"fingerprint": "made"}
        made["model"] |= {"device": "none", "dtype": "none"}
        for task in made["tasks"].values():
            task |= {"source": "made", "scorer": made["tasks"]["answers"]["scorer"]}
        (run / "manifest.json").write_text(json.dumps(made))
        score_run(run, measured_by=dict.fromkeys(("reference", "encoder"), NONE))
        begun = time.process_time()
        report_run(run)
        seconds = time.process_time() - begun
        page = run / "report.html"
        opened = []
        with started() as chromium:
            for _ in range(TIMES):
                with visited(chromium, page) as visit:
                    opened.append(visit.seconds)
        return {
            "samples": size,
            "report_cpu_seconds": round(seconds, 1),
            "page_mb": round(page.stat().st_size / 1e6, 2),
            "open_seconds": round(median(opened), 2),
            "open_seconds_worst": round(max(opened), 2),
        }


if __name__ == "__main__":
    main()
