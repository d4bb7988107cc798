"""Time and memory of the bootstrap over many docs (`python benchmarks/error_rates.py speed`)."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from psplit_eval.resampling import MEAN, Array, bca_interval, difference_of, studentised_interval

__all__ = ["measured"]

DOCS, SAMPLES, RESAMPLES = 12_000, 8, 10_000
BATCH = 100
"""Resamples that scipy holds at once; by default all, here 1 GB of them."""


def measured() -> list[dict[str, str]]:
    """One row a job, from raw samples to intervals: the fastest of three, and memory apart."""
    rng = np.random.default_rng(1)
    right = (rng.random((2, DOCS, SAMPLES)) < rng.beta(1, 1, (DOCS, 1))).astype(np.float64)
    lengths = rng.lognormal(size=(2, DOCS, SAMPLES))
    jobs: tuple[tuple[str, Callable[[Array], None], Array], ...] = (
        ("psplit: BCa and studentised, right or wrong", _both, right),
        ("psplit: BCa and studentised, numbers that all differ", _both, lengths),
        ("psplit: BCa, numbers that all differ", _bca, lengths),
        ("scipy.stats.bootstrap: BCa, either", _scipys, lengths),
    )
    return [_row(job, partial(run, samples)) for job, run, samples in jobs]


def _both(samples: Array) -> None:
    rows = samples.mean(axis=2).T
    bca_interval(rows, difference_of(MEAN), resamples=RESAMPLES)
    studentised_interval(rows, difference_of(MEAN), resamples=RESAMPLES)


def _bca(samples: Array) -> None:
    bca_interval(samples.mean(axis=2).T, difference_of(MEAN), resamples=RESAMPLES)


def _scipys(samples: Array) -> None:
    a, b = samples.mean(axis=2)
    stats.bootstrap((b - a,), np.mean, n_resamples=RESAMPLES, batch=BATCH, method="BCa", rng=1)


def _row(job: str, run: Callable[[], None]) -> dict[str, str]:
    return {
        "job": job,
        "docs": str(DOCS),
        "samples": str(SAMPLES),
        "modes": "2",
        "resamples": str(RESAMPLES),
        "processor_seconds": f"{min(_seconds(run) for _ in range(3)):.1f}",
        "peak_mib": f"{_peak(run):.0f}",
    }


def _seconds(run: Callable[[], None]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def _peak(run: Callable[[], None]) -> float:
    """MiB that arrays and objects take at most during the job."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
