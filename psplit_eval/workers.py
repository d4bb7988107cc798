"""Score docs in several processes where that is worth their start.

Numbers come in the order of the docs whatever the processes do, and no more docs are read ahead
than keep them busy, so memory stays bounded.
"""

from __future__ import annotations

import os
import pickle
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context

from psplit_eval.errors import UsageError
from psplit_eval.scoring import Answers, Scorer
from psplit_eval.store import Metric

__all__ = ["scoring_by", "worker_count"]

Score = Callable[[str, Iterable[Answers]], Iterator[Metric]]
"""(task, docs) → their numbers, in order."""

_FEW = 10_000
"""Samples that are scored before the processes have started."""
_MOST = 8
"""More processes than this wait for the one that reads and writes; each takes about 250 MB."""
_AT_ONCE = 32
_AHEAD = 4
"""Docs that a process gets at once, and how many such parcels wait for each process."""


def worker_count(samples: int) -> int:
    """Processes to score so many samples with; 0: this one alone.

    One fewer than there are processors to use, at most 8; PSPLIT_WORKERS sets it. Raises UsageError
    where that is no number.
    """
    given = os.environ.get("PSPLIT_WORKERS")
    if given is not None:
        if not given.isdecimal():
            raise UsageError(
                f"PSPLIT_WORKERS={given!r}: expected a number of processes, 0 for none but psplit's"
            )
        return int(given)
    linux = hasattr(os, "sched_getaffinity")
    others = (len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1) - 1
    return 0 if samples < _FEW or others < 2 else min(others, _MOST)


@contextmanager
def scoring_by(scorers: Mapping[str, Scorer], samples: int) -> Iterator[Score]:
    """A function that scores docs of the tasks of `scorers`, about so many samples in all.

    A scorer that another process cannot be given scores here.
    """
    workers = worker_count(samples)
    portable = {task: scorer for task, scorer in scorers.items() if _is_portable(scorer)}
    if not (workers and portable):
        yield lambda task, docs: _score(scorers[task], docs)
        return
    # not forked: torch's threads would be missing in a copy of this process
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (portable,))

    def score(task: str, docs: Iterable[Answers]) -> Iterator[Metric]:
        if task in portable:
            return _score_in(pool, workers, task, scorers[task], docs)
        return _score(scorers[task], docs)

    try:
        yield score
    finally:
        pool.shutdown(cancel_futures=True)


def _is_portable(scorer: Scorer) -> bool:
    try:
        pickle.dumps(scorer)
    except (AttributeError, TypeError, pickle.PicklingError):  # of a module in a task folder
        return False
    return True


def _score(scorer: Scorer, docs: Iterable[Answers]) -> Iterator[Metric]:
    for answers in docs:
        yield from answers.scored_by(scorer)


def _score_in(
    pool: ProcessPoolExecutor,
    workers: int,
    task: str,
    scorer: Scorer,
    docs: Iterable[Answers],
) -> Iterator[Metric]:
    waiting: deque[tuple[Future[list[Metric]], list[Answers]]] = deque()
    docs = iter(docs)
    while True:
        while len(waiting) < workers * _AHEAD and (parcel := list(islice(docs, _AT_ONCE))):
            waiting.append((_sent(pool, task, parcel), parcel))
        if not waiting:
            return
        future, parcel = waiting.popleft()
        try:
            yield from future.result()
        except BrokenProcessPool:  # killed, or not to be started: what is left is done here
            yield from _score(scorer, parcel)


def _sent(pool: ProcessPoolExecutor, task: str, parcel: list[Answers]) -> Future[list[Metric]]:
    try:
        return pool.submit(_work, task, parcel)
    except BrokenProcessPool as error:
        failed: Future[list[Metric]] = Future()
        failed.set_exception(error)
        return failed


_scorers: Mapping[str, Scorer] = {}
"""In a process that scores: what it was given when it began."""


def _begin(scorers: Mapping[str, Scorer]) -> None:
    global _scorers
    _scorers = scorers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    warnings.simplefilter("ignore")


def _work(task: str, parcel: Sequence[Answers]) -> list[Metric]:
    return list(_score(_scorers[task], parcel))
