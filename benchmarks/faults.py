"""What faults cost: samples lost and requests sent in vain, against a server that fails at random.

    python benchmarks/faults.py

400 samples (two modes, 50 docs, 4 samples each) at fault rates 0, 10 and 30 %, the faults mixed:
429 with and without Retry-After, 500, a cut connection, half an answer, HTML, broken JSON, null
content, no choices, and a stall until the client's timeout. Extra requests are those that neither a
sample nor a fault explains: the questions asked before sampling.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from faultserver import FaultServer  # noqa: E402
from serving import PROMPT, asked_for, backend_of, collect  # noqa: E402

DOCS, SAMPLES = 50, 4
RATES = (0.0, 0.1, 0.3)
TIMEOUT = 5.0


def main() -> None:
    print("| fault rate | samples | lost | requests | faults | extra | extra, % | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for rate in RATES:
        print(row(rate), flush=True)


def row(rate: float) -> str:
    requests = asked_for(DOCS, SAMPLES, (None, PROMPT))
    results: list[tuple[object, object]] = []
    started = time.monotonic()
    with FaultServer(rate=rate, seed=20260411) as server:
        collect(backend_of(server.url, timeout=TIMEOUT, scale=0.1), requests, results)
        sent, faults = len(server.seen), server.faults
    seconds = time.monotonic() - started
    good = sum(not isinstance(result, Exception) for _, result in results)
    extra = sent - len(requests) - faults
    counts = (len(requests), len(requests) - good, sent, faults, extra)
    shown = " | ".join(map(str, counts))
    return f"| {rate:.0%} | {shown} | {100 * extra / len(requests):.2f} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
