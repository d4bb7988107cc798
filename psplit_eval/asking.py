"""Who is asked, by which rubric, how, and what that may cost: what `judge` and `audit` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from psplit_eval.backends import EngineOptions
from psplit_eval.engines import check_engine, find_model, open_backend
from psplit_eval.errors import UsageError
from psplit_eval.hf import HFBackend
from psplit_eval.inquiry import Bill, Price, check_budget, judge_key, price_of
from psplit_eval.judges import Judge, JudgeName, RecordedJudge
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.local_judge import LocalJudge
from psplit_eval.manifest import locked
from psplit_eval.rubrics import Rubric
from psplit_eval.served_judge import ServedJudge, ServedOptions

__all__ = ["Asking", "Judged", "Opener", "Screen", "open_judge"]

Say = Callable[[str], None]
Opener = Callable[[JudgeName, ServedOptions, EngineOptions, Say], Judge]
"""Makes a judge of its name."""


class Screen(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None: ...

    def judging(self, total: int) -> AbstractContextManager[Callable[[int], None]]: ...


@dataclass(frozen=True)
class Judged:
    """What one judge was asked, and what it took; `price` None: not known."""

    judge: str
    items: int
    bill: Bill
    price: Price | None


def open_judge(name: JudgeName, served: ServedOptions, engine: EngineOptions, say: Say) -> Judge:
    """A judge by its name. Raises UsageError, CheckpointError or DataError."""
    if name.kind == "recorded":
        return RecordedJudge(Path(name.model))
    if name.kind == "openai":
        return ServedJudge(name, served, say)
    check_engine(engine)
    checkpoint = find_model(name.model, engine, say)
    backend = open_backend(checkpoint, engine, say)
    assert isinstance(backend, HFBackend)
    return LocalJudge(f"hf:{checkpoint.name}", checkpoint, backend)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What the command line says of judges.

    `served` and `engine`: how judges of either kind are asked. `max_cost` is of every judge, in the
    currency of `prices`. Nothing is asked with `dry_run`. `opens` makes the judges: another one
    than `open_judge` brings judges of one's own.
    """

    judges: Sequence[JudgeName]
    rubric: Rubric
    prices: Mapping[str, Price] = field(default_factory=dict)
    max_cost: float | None = None
    dry_run: bool = False
    served: ServedOptions = field(default_factory=ServedOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    opens: Opener = open_judge

    def priced(self) -> dict[JudgeName, Price | None]:
        """Every judge's price. Raises as `price_of` and `check_budget`."""
        found = {name: price_of(self.prices, name) for name in self.judges}
        for price in found.values():
            check_budget(price, self.max_cost)
        return found

    def opened(self, say: Say) -> Iterator[tuple[JudgeName, Judge]]:
        """The judges, those that hold a model one by one.

        Raises as `open_judge`, and UsageError for one judge under two names: before anything is
        asked where no model has to be loaded for it.
        """
        known: dict[str, JudgeName] = {}

        def opened(name: JudgeName) -> Judge:
            judge = self.opens(name, self.served, self.engine, say)
            other = known.setdefault(judge_key(judge), name)
            if other != name:
                raise UsageError(
                    f"--judge {name} and {other}: one and the same judge; name it once"
                )
            return judge

        light = {name: opened(name) for name in self.judges if name.kind != "hf"}
        for name in self.judges:
            yield name, light.get(name) or opened(name)

    @contextmanager
    def ledger(self, folder: Path) -> Iterator[Ledger]:
        """Of a folder; in memory where nothing is asked and there is none: nothing is written."""
        path = folder / LEDGER
        if self.dry_run and not path.exists():
            with Ledger(Path(":memory:")) as ledger:
                yield ledger
            return
        with locked(folder), Ledger(path) as ledger:
            yield ledger
