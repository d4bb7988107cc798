"""Folders that are there whole or not at all."""

import pytest

from psplit_eval.errors import InfrastructureError
from psplit_eval.files import new_folder


def test_a_folder_has_its_name_when_it_is_whole(tmp_path):
    place = tmp_path / "runs" / "made"
    with new_folder(place) as partial:
        (partial / "part").mkdir()
        (partial / "part" / "a.txt").write_text("a")
        assert not place.exists()
    assert (place / "part" / "a.txt").read_text() == "a"
    assert [path.name for path in place.parent.iterdir()] == ["made"]


def half_written(place, error):
    with new_folder(place) as partial:
        (partial / "a.txt").write_text("a")
        raise error


def test_what_breaks_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        half_written(tmp_path / "made", KeyboardInterrupt())
    with pytest.raises(InfrastructureError, match="free disk space"):
        half_written(tmp_path / "made", OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_leavings_of_a_kill_are_no_part_of_it(tmp_path):
    left = tmp_path / ".made.partial"
    left.mkdir()
    (left / "old.txt").write_text("old")
    with new_folder(tmp_path / "made") as partial:
        (partial / "new.txt").write_text("new")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["new.txt"]


def test_a_folder_with_files_in_it_is_not_replaced(tmp_path):
    place = tmp_path / "made"
    place.mkdir()
    with new_folder(place) as partial:
        (partial / "first.txt").write_text("1")
    with pytest.raises(InfrastructureError):
        half_written(place, OSError(1, "never"))
    with pytest.raises(InfrastructureError, match="not empty"), new_folder(place):
        pass
    assert [path.name for path in place.iterdir()] == ["first.txt"]
    assert list(tmp_path.iterdir()) == [place]
