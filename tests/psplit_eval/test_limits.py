"""A time limit on a piece of work."""

import signal
import threading
import time

import pytest

from psplit_eval.limits import OutOfTimeError, limited, time_limit


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("work", [spin, time.sleep])
def test_work_is_stopped_where_it_is(work):
    start = time.monotonic()
    with pytest.raises(OutOfTimeError, match=r"0\.05 s"), time_limit(0.05):
        work(5)
    assert time.monotonic() - start < 1


def test_work_that_keeps_to_its_time_is_left_alone():
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # the limit has ended with the block


def test_a_library_that_swallows_everything_is_stopped_the_second_time():
    def stubborn():
        try:
            spin(5)
        except BaseException:
            spin(5)

    start = time.monotonic()
    with pytest.raises(OutOfTimeError), time_limit(0.05):
        stubborn()
    assert time.monotonic() - start < 3


def test_what_was_there_before_is_there_afterwards():
    handler = signal.getsignal(signal.SIGALRM)
    within = []
    with pytest.raises(ZeroDivisionError), time_limit(5):
        within.append(limited() / 0)
    with time_limit(5):
        within.append(limited())
    assert within == [True]
    assert not limited()
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_neither_inside_another_nor_in_another_thread():
    with time_limit(5), pytest.raises(RuntimeError, match="no other limit"), time_limit(1):
        pass
    found = []

    def try_it():
        try:
            with time_limit(1):
                found.append("ran")
        except RuntimeError as error:
            found.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert ["main thread" in text for text in found] == [True]
