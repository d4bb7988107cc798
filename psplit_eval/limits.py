"""A time limit on a piece of work, by a signal of the operating system.

Work inside one long call of a C library ends only when that call does; everything else is stopped
where it is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["OutOfTimeError", "limited", "time_limit"]

_open = 0
"""Limits that are in force."""


class OutOfTimeError(BaseException):
    """The work took longer than its limit.

    No `Exception`: libraries that go on after any of those must not go on after this one.
    """


def limited() -> bool:
    """Whether a time limit is in force: work that has one of its own then leaves it out."""
    return _open > 0


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block once it has taken `seconds` of wall time.

    Raised again every second, should something swallow it. In the main thread only, and not inside
    another limit: RuntimeError.
    """
    global _open
    if threading.current_thread() is not threading.main_thread() or _open:
        raise RuntimeError("a time limit: expected the main thread, and no other limit in force")
    running = True

    def stop(*_: Any) -> None:
        if running:
            raise OutOfTimeError(f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    _open += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _open -= 1
