"""Who draws which response, and who is trained on it: tables worked out by hand."""

import pytest
import torch

from psplit_train.config import MethodSettings, ModeSettings
from psplit_train.sharing import beyond, split_of

TWO = [ModeSettings(name="normal"), ModeSettings(name="high")]
THREE = [*TWO, ModeSettings(name="low", eta=-0.1)]
YES, NO = True, False


def split(modes=TWO, **method):
    return split_of(modes, MethodSettings(**method))


@pytest.mark.parametrize(
    ("sharing", "two", "three"),
    [
        ("on", ((YES, YES), (YES, YES)), ((YES,) * 3,) * 3),
        ("off", ((YES, NO), (NO, YES)), ((YES, NO, NO), (NO, YES, NO), (NO, NO, YES))),
        ("to_normal", ((YES, YES), (NO, YES)), ((YES,) * 3, (NO, YES, NO), (NO, NO, YES))),
        ("from_normal", ((YES, NO), (YES, YES)), ((YES, NO, NO), (YES, YES, NO), (YES, NO, YES))),
    ],
)
def test_who_trains_on_whose(sharing, two, three):
    """Row m, column s: mode m trains on what mode s drew."""
    assert split(sharing=sharing).takes == two
    assert split(THREE, sharing=sharing).takes == three


def test_every_mode_has_its_own_weight():
    found = split(THREE, eta=0.3, eta_normal=0.2)
    assert found.etas == (-0.2, 0.3, -0.1)  # that of the normal mode is applied with a minus sign
    assert found.explores == (False, True, False)
    given = [TWO[0], ModeSettings(name="high", eta=0.5)]
    assert split(given, eta=0.3).etas == (0.0, 0.5)
    assert split(TWO[:1], name="grpo").etas == (0.0,)


def test_a_reference_is_the_first_mode_unless_it_is_named():
    modes = [*TWO, ModeSettings(name="bold", system_prompt="b", role="high", reference="high")]
    assert split(modes).references == (0, 0, 1)


def test_rows_of_a_query_are_drawn_mode_by_mode_wherever_a_process_begins():
    found = split(THREE)
    whole = found.samplers(0, 12, 6)
    assert whole.tolist() == [0, 0, 1, 1, 2, 2] * 2
    parts = [found.samplers(first, 4, 6) for first in (0, 4, 8)]
    assert torch.equal(torch.cat(parts), whole)
    assert found.taken(whole[:3]).tolist() == [[True] * 3] * 3


def test_what_is_scored_beyond_what_is_trained_is_the_reference_of_a_bonus():
    apart = split(sharing="off")
    assert beyond(apart.scored(MethodSettings(sharing="off")), apart.takes) == [
        [False, True],
        [False, False],
    ]
    own = MethodSettings(sharing="off", alpha=1.0)
    assert not any(map(any, beyond(split_of(TWO, own).scored(own), apart.takes)))
