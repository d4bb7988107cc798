"""Suites and their settings."""

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.errors import UnknownNameError, UsageError
from psplit_eval.suites import SUITES, TaskSettings, suite_named


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_every_task_of_a_suite_exists(suite):
    catalog = Catalog()
    assert set(suite.tasks) <= {*catalog.tasks, *catalog.groups}


def test_an_unknown_suite_gets_a_guess():
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        suite_named("quik")


def test_later_settings_win_one_by_one():
    suite = TaskSettings(limit=5, samples=4, sampling={"top_k": 3, "top_p": 0.5})
    found = suite.updated(TaskSettings(samples=9, sampling={"top_k": 7}))
    assert found == TaskSettings(limit=5, samples=9, sampling={"top_k": 7, "top_p": 0.5})


@pytest.mark.parametrize("bad", [{"limit": 0}, {"samples": -1}])
def test_nothing_to_do_is_an_error(bad):
    with pytest.raises(UsageError, match="expected 1 or more"):
        TaskSettings(**bad)


def test_a_mode_stands_between_the_suite_and_the_user():
    settings = TaskSettings(sampling={"top_p": 0.5}, defaults={"temperature": 0.6, "top_k": 20})
    mode = {"temperature": 1.5, "top_p": 0.9}
    assert settings.effective(mode) == {"temperature": 1.5, "top_k": 20, "top_p": 0.5}


def test_the_paper_suite_has_the_published_settings():
    paper = suite_named("paper").tasks
    general = set(paper) - {"psplit_story"}
    assert general == {"psplit_math500", "psplit_aime", "psplit_gpqa_diamond", "psplit_mmlu_pro"}
    for name in general:
        assert paper[name].samples == 8
        assert paper[name].defaults == {
            "temperature": 0.6,
            "top_k": 20,
            "top_p": 0.95,
            "max_tokens": 32768,
        }
