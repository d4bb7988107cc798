"""Which server is asked next, which is left alone, which is given up."""

import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from faultserver import FAULTS, FaultServer
from hypothesis import given
from hypothesis import strategies as st
from serving import PROMPT, asked_for, backend_of, collect, drawn, questions, texts

from psplit_eval.errors import InfrastructureError
from psplit_eval.fleet import pause_seconds

NOW = 1_800_000_000.0


@pytest.fixture
def dead_url():
    """URLs of ports where nobody listens; they are held, so that no other server gets them."""
    with ExitStack() as held:

        def url():
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

        yield url


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True)}, 30),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True)}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(headers, seconds):
    assert pause_seconds(headers, NOW) == seconds


@given(st.text())
def test_any_header_is_read(text):
    found = pause_seconds({"retry-after": text, "retry-after-ms": text}, NOW)
    assert found is None or found >= 0


def test_a_server_is_left_alone_as_long_as_it_says():
    with FaultServer(script=[None, "429-after"]) as server:
        texts(drawn(asked_for(), server, concurrency=1))
        times = [seen.at for seen in server.seen]
    assert times[2] - times[1] >= 0.3


def test_a_server_that_takes_few_at_a_time_loses_no_sample():
    """Being told to come back later is no failed try, however often."""
    script = [None, *["429-after"] * 9] * 40
    with FaultServer(script=script, retry_after=("retry-after-ms", "20")) as server:
        results = drawn(asked_for(), server, concurrency=8, retries=1)
    assert all(texts(results))


def test_retry_after_holds_for_every_request_to_that_server_and_others_take_over():
    pause = ("Retry-After", "1")
    with (
        FaultServer(script=[None, None, "429-after"], retry_after=pause) as one,
        FaultServer() as two,
    ):
        texts(drawn(asked_for(40), one, two, concurrency=1))
        (told,) = [seen.at for seen in one.seen if seen.fault]
        assert all(seen.at <= told or seen.at >= told + 1 for seen in one.seen)
        assert len(questions(two)) >= 38


def test_a_pause_without_end_ends_the_run():
    pause = ("Retry-After", "7200")
    with FaultServer(script=[None, "429-after"], retry_after=pause) as server:
        with pytest.raises(InfrastructureError, match=r"left alone for 7\d{3} s"):
            drawn(asked_for(), server, concurrency=1)
        assert len(server.seen) == 2


def test_a_server_that_wants_a_long_pause_is_left_to_it_where_there_are_others():
    pause = ("Retry-After", "7200")
    script = [None, None, "429-after"]
    with FaultServer(script=script, retry_after=pause) as one, FaultServer(takes=0.01) as two:
        found = drawn(asked_for(40), one, two, concurrency=2)
        assert len(one.seen) <= 4
    assert len(texts(found)) == 40


def test_several_servers_share_the_work():
    with FaultServer(takes=0.02) as one, FaultServer(takes=0.02) as two:
        found = drawn(asked_for(60, 2), one, two, concurrency=3)
        counts = [len(questions(server)) for server in (one, two)]
        assert max(one.busiest, two.busiest) <= 3
    with FaultServer() as alone:
        assert texts(found) == texts(drawn(asked_for(60, 2), alone))
    assert sum(counts) == 120
    assert min(counts) >= 20


def test_a_dead_server_of_several_is_left_out_and_said_once(dead_url):
    said = []
    with FaultServer() as server:
        found = drawn(asked_for(20, 2), dead_url(), server, say=said.append)
    assert len(texts(found)) == 40
    assert [word for word in said if "is left out" in word] == said[:1] == said


def test_a_server_that_dies_half_way_costs_no_sample_and_few_requests():
    said = []
    with FaultServer(script=[None] * 9 + ["cut"] * 9999) as dying, FaultServer(takes=0.01) as well:
        found = drawn(asked_for(150, 1), dying, well, concurrency=2, say=said.append)
        cut = dying.faults
    assert len(texts(found)) == 150
    assert "left out" in said[0]
    assert cut <= 2 * 4 + 2 + 10  # to notice, in flight, and trials whether it is back


def test_a_server_that_comes_back_costs_no_sample():
    said = []
    with FaultServer(script=[None] * 9 + ["500"] * 14) as server:
        found = drawn(asked_for(60, 1), server, concurrency=2, retries=8, say=said.append)
    assert len(texts(found)) == 60
    assert ["left out" in said[0], "answers again" in said[1]] == [True, True]


def test_when_every_server_is_gone_the_run_ends_and_what_was_done_is_kept():
    kept = []
    with FaultServer(script=[None] * 20 + ["cut"] * 9999) as server:
        backend = backend_of(server.url, scale=0.001, concurrency=2)
        with pytest.raises(InfrastructureError, match="no server answers any more"):
            collect(backend, asked_for(5000), kept)
        asked = len(server.seen)
    assert len([result for _, result in kept if not isinstance(result, Exception)]) == 19
    assert asked <= 20 + 2 * 4 + 2 + 12


def test_no_server_at_all_is_said_at_once(dead_url):
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match="start the server, or correct its URL"):
        drawn(asked_for(), dead_url(), dead_url(), scale=0.1)
    assert time.monotonic() - started < 20


def test_no_more_requests_a_minute_than_allowed():
    with FaultServer() as server:
        started = time.monotonic()
        drawn(asked_for(9), server, requests_per_minute=1200)
        assert server.seen[-1].at - started >= (len(server.seen) - 1) * 0.05


def test_a_third_of_all_requests_failing_loses_no_sample_and_adds_no_requests():
    """Requests = samples + faults + 5 before sampling: once, a mode, three for seeds."""
    kinds = tuple(kind for kind in FAULTS if kind != "stall")  # a timeout would depend on the clock
    with FaultServer(rate=0.3, kinds=kinds, seed=7, retry_after=("retry-after-ms", "5")) as server:
        found = drawn(asked_for(32, 4, (None, PROMPT)), server)
        asked, faults = len(server.seen), server.faults
    assert len(texts(found)) == 256
    assert faults > 60
    assert asked == 256 + faults + 5
    with FaultServer() as calm:
        assert texts(drawn(asked_for(32, 4, (None, PROMPT)), calm)) == texts(found)
