"""Many questions on their way to servers at once; what is answered comes back in small portions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from psplit_eval.errors import PsplitError
from psplit_eval.fleet import Fleet

__all__ = ["Done", "InFlight", "Work", "flowing"]

T = TypeVar("T")
Work = Callable[[T], Awaitable[Any]]
Done = list[tuple[T, Any]]
"""Items, each with what came of it or its error."""

_MOST_TOGETHER = 64
_SECONDS_TOGETHER = 1.0


def flowing(
    begin: Callable[[], Awaitable[InFlight[T]]], heard: Callable[[Done[T]], None] = lambda _: None
) -> Iterator[Done[T]]:
    """What is done, a second's worth at a time; cut short, first what was done until then.

    `heard` is told before it is given. Raises what would fail every other item, a PsplitError.
    """
    with asyncio.Runner() as runner:
        running = runner.run(_awaited(begin))
        ready: Done[T] = []
        try:
            runner.run(running.prepare())
            while ready := runner.run(running.some()):
                heard(ready)
                together, ready = ready, []
                yield together
        except (KeyboardInterrupt, PsplitError):
            ready += running.take()
            if ready:
                yield ready
            raise
        finally:
            runner.run(running.end())


async def _awaited(begin: Callable[[], Awaitable[InFlight[T]]]) -> InFlight[T]:
    return await begin()


class InFlight(Generic[T]):
    """Items on their way: as many workers as the servers have places pull them one by one."""

    def __init__(
        self,
        items: Iterable[T],
        fleet: Fleet,
        prepare: Callable[[], Awaitable[None]],
        work: Work[T],
    ) -> None:
        """`items` are taken one by one, as places become free; `prepare` is awaited first."""
        self._left = iter(items)
        self._fleet, self._work, self._prepare = fleet, work, prepare
        self._workers: set[asyncio.Task[None]] = set()
        self._done: Done[T] = []
        self._more = asyncio.Event()

    async def prepare(self) -> None:
        """Begin: nothing is on its way before."""
        await self._prepare()
        for _ in range(self._fleet.places):
            worker = asyncio.get_running_loop().create_task(self._pull())
            self._workers.add(worker)
            worker.add_done_callback(self._ended)
        self._fleet.failure.add_done_callback(lambda _: self._more.set())

    async def _pull(self) -> None:
        for item in self._left:
            result = await self._result(item)
            self._done.append((item, result))  # not in one line: `take` renews the list meanwhile
            if len(self._done) >= _MOST_TOGETHER:
                self._more.set()

    async def _result(self, item: T) -> Any:
        try:
            return await self._work(item)
        except PsplitError:
            raise  # it would be so with every other one
        except Exception as error:  # whatever it is, the neighbours go on
            return error

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if worker.cancelled():
            return
        error = worker.exception()
        if error is not None and not self._fleet.failure.done():
            self._fleet.failure.set_exception(error)
        self._workers.discard(worker)
        if error is not None or not self._workers:
            self._more.set()

    async def some(self) -> Done[T]:
        """What has completed in a second, sooner where it is much or all; [] at the end.

        Raises what ended the work; `take` has the rest then.
        """
        while True:
            if len(self._done) < _MOST_TOGETHER and self._workers:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS_TOGETHER):
                        await self._more.wait()
            self._more.clear()
            if self._fleet.failure.done():
                self._fleet.failure.result()
            if self._done or not self._workers:
                break
        return self.take()

    def take(self) -> Done[T]:
        """All that has completed and was not taken yet."""
        taken, self._done = self._done, []
        return taken

    async def end(self) -> None:
        """Cancel what is on its way."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._fleet.close()
