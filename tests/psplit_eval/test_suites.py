"""Suites, and where tasks are found."""

import pytest

from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.suites import SUITES, TaskSettings, suite_named, task_files


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_every_task_of_a_suite_exists(suite):
    assert set(suite.tasks) <= set(task_files())


def test_an_unknown_suite_gets_a_guess():
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        suite_named("quik")


def test_the_users_folder_comes_first(tmp_path):
    (tmp_path / "psplit_sums.yaml").write_text("task: psplit_sums\n")
    assert task_files([tmp_path])["psplit_sums"].parent == tmp_path
    with pytest.raises(UsageError, match="existing folder"):
        task_files([tmp_path / "nowhere"])


def test_later_settings_win_one_by_one():
    suite = TaskSettings(limit=5, samples=4, sampling={"top_k": 3, "top_p": 0.5})
    found = suite.updated(TaskSettings(samples=9, sampling={"top_k": 7}))
    assert found == TaskSettings(limit=5, samples=9, sampling={"top_k": 7, "top_p": 0.5})


@pytest.mark.parametrize("bad", [{"limit": 0}, {"samples": -1}])
def test_nothing_to_do_is_an_error(bad):
    with pytest.raises(UsageError, match="expected 1 or more"):
        TaskSettings(**bad)
