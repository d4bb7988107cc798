"""Which mode draws which response, and which modes are trained on it.

A query has M·n rows in a batch: n of the first mode, n of the second, and so on. A response is
trained under the prompt of every mode that *takes* it, with the very token ids that were drawn:
with two modes and full sharing these are the four quarters of arXiv 2604.11510.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psplit_eval.modes import Mode
from psplit_train.config import MethodSettings, ModeSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Matrix", "Split", "beyond", "split_of"]

Matrix = Sequence[Sequence[bool]]
"""[m][s]: of responses of mode s under mode m."""


@dataclass(frozen=True)
class Split:
    """The modes that are trained together.

    `takes[m][s]`: mode m trains on responses of mode s. `references[m]`: the number of the mode
    whose log-probabilities enter m's bonus. `etas[m]`: the weight of that bonus, with its sign.
    `explores[m]`: whether rarity, the entropy term and the controller are for this mode.
    """

    modes: tuple[Mode, ...]
    takes: tuple[tuple[bool, ...], ...]
    references: tuple[int, ...]
    etas: tuple[float, ...]
    explores: tuple[bool, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modes."""
        return tuple(mode.name for mode in self.modes)

    @property
    def uneven(self) -> bool:
        """Whether responses of some modes are trained under more modes than those of others."""
        return len({sum(column) for column in zip(*self.takes, strict=True)}) > 1

    @property
    def pairs_a_row(self) -> float:
        """The number of modes that are trained on a response, as a mean over the modes' own."""
        return sum(map(sum, self.takes)) / len(self.takes)

    def samplers(self, first: int, rows: int, group: int, device: Any = None) -> torch.Tensor:
        """The number of the mode that draws each of `rows` rows, `first` being the first one's
        number in the batch of all processes and `group` the rows of a query: (rows,)."""
        import torch

        places = torch.arange(first, first + rows, device=device) % group
        return places // (group // len(self.modes))

    def taken(self, samplers: torch.Tensor) -> torch.Tensor:
        """Whether mode m is trained on each row: (M, rows)."""
        import torch

        return torch.tensor(self.takes, device=samplers.device)[:, samplers]

    def scored(self, method: MethodSettings) -> tuple[tuple[bool, ...], ...]:
        """Whose responses are needed under mode m, [m][s]: those that it trains on, and those that
        it is the reference of in a bonus."""
        needed = [list(takes) for takes in self.takes]
        for mode, (eta, reference) in enumerate(zip(self.etas, self.references, strict=True)):
            if (eta or self.explores[mode]) and method.alpha < 1:
                taken = zip(needed[reference], self.takes[mode], strict=True)
                needed[reference] = [a or b for a, b in taken]
        return tuple(map(tuple, needed))


def beyond(wanted: Matrix, known: Matrix) -> list[list[bool]]:
    """What is wanted and not known."""
    pairs = zip(wanted, known, strict=True)
    return [[a and not b for a, b in zip(*rows, strict=True)] for rows in pairs]


def split_of(modes: Sequence[ModeSettings], method: MethodSettings) -> Split:
    """The modes of a config that this method trains; a baseline has one (`Config.trained_modes`).

    The first mode is the one that others call normal; it is its own reference.
    """
    names = [mode.name for mode in modes]
    known = [mode.mode() for mode in modes]
    references = [names.index(mode.reference) if mode.reference else 0 for mode in modes]
    explores = [mode.role == "high" for mode in known]
    etas = [
        _eta(number, settings, explorer, method)
        for number, (settings, explorer) in enumerate(zip(modes, explores, strict=True))
    ]
    return Split(
        tuple(known),
        tuple(tuple(_takes(m, s, method) for s in range(len(modes))) for m in range(len(modes))),
        tuple(references),
        tuple(etas),
        tuple(explores),
    )


def _eta(number: int, settings: ModeSettings, explorer: bool, method: MethodSettings) -> float:
    if settings.eta is not None:
        return settings.eta
    if not method.splits:
        return 0.0
    if number == 0 and not explorer:
        return -method.eta_normal
    return method.eta if explorer else 0.0


def _takes(mode: int, sampler: int, method: MethodSettings) -> bool:
    """Whether a mode trains on another's responses; on its own it always does."""
    if mode == sampler:
        return True
    one_way = {"to_normal": mode == 0, "from_normal": sampler == 0}
    return method.sharing == "on" or one_way.get(method.sharing, False)
