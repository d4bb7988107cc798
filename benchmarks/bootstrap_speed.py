"""Time and memory of the bootstrap over many docs (`python benchmarks/error_rates.py speed`)."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from psplit_eval.resampling import MEAN, Array, bca_interval, difference_of, studentised_interval

__all__ = ["measured"]

DOCS, SAMPLES, RESAMPLES, FEWER = 12_000, 8, 10_000, 500
"""scipy draws FEWER resamples: it takes one at a time through all docs."""


def measured() -> list[dict[str, str]]:
    """One row a job; the peak of memory is the process's, less what it was before the job."""
    rng = np.random.default_rng(1)
    samples = (rng.random((2, DOCS, SAMPLES)) < rng.beta(1, 1, (DOCS, 1))).astype(np.float64)
    _ours(samples[:, :50])  # imports and tables are made here
    jobs = (
        ("psplit: BCa and studentised", RESAMPLES, _ours),
        ("scipy.stats.bootstrap: BCa", FEWER, _scipys),
    )
    return [_row(job, resamples, partial(run, samples)) for job, resamples, run in jobs]


def _ours(samples: Array) -> None:
    rows = samples.mean(axis=2).T
    bca_interval(rows, difference_of(MEAN), resamples=RESAMPLES)
    studentised_interval(rows, difference_of(MEAN), resamples=RESAMPLES)


def _scipys(samples: Array) -> None:
    a, b = samples.mean(axis=2)
    stats.bootstrap((b - a,), np.mean, n_resamples=FEWER, batch=100, method="BCa", rng=1)


def _row(job: str, resamples: int, run: Callable[[], None]) -> dict[str, str]:
    before, begun = _peak(), time.process_time()
    run()
    seconds = time.process_time() - begun
    return {
        "job": job,
        "docs": str(DOCS),
        "samples": str(SAMPLES),
        "modes": "2",
        "resamples": str(resamples),
        "processor_seconds": f"{seconds:.2f}",
        "peak_mib": f"{_peak() - before:.0f}",
    }


def _peak() -> float:
    """Largest memory of this process so far, MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
