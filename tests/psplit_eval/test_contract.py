"""What psplit uses of lm-eval beyond its documented command line: says what moved when it moves."""

import inspect
from dataclasses import fields
from importlib import metadata

import pytest


def parameters(function):
    return set(inspect.signature(function).parameters)


def test_the_version_is_the_one_that_is_pinned():
    requirement = next(r for r in metadata.requires("psplit") if r.startswith("lm-eval[math]"))
    assert requirement == f"lm-eval[math]=={metadata.version('lm-eval')}"


def test_tasks_are_indexed_with_kind_file_settings_and_tags():
    from lm_eval.tasks._index import Entry, Kind

    assert {field.name for field in fields(Entry)} >= {"name", "kind", "yaml_path", "cfg", "tags"}
    assert {kind.name for kind in Kind} >= {"TASK", "PY_TASK", "GROUP", "TAG"}


def test_a_file_is_read_with_and_without_its_functions():
    from lm_eval.tasks._yaml_loader import load_yaml

    assert {"path", "resolve_func"} <= parameters(load_yaml)


def test_templates_are_compiled_by_one_environment_that_can_be_told_to_keep_them():
    from lm_eval import utils

    assert "env.from_string(template)" in inspect.getsource(utils.apply_template)


def test_a_manager_finds_and_builds_tasks():
    from lm_eval.tasks import TaskManager

    assert {"include_path", "include_defaults"} <= parameters(TaskManager)
    assert "task_list" in parameters(TaskManager.load)
    assert isinstance(TaskManager.task_index, property)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        (
            "fewshot_context",
            {"doc", "num_fewshot", "system_instruction", "apply_chat_template"}
            | {"fewshot_as_multiturn", "chat_template", "gen_prefix"},
        ),
        ("construct_requests", {"doc", "ctx"}),
        ("process_results", {"doc", "results"}),
        ("set_fewshot_seed", {"seed"}),
        ("doc_iterator", set()),
        ("doc_to_target", {"doc"}),
        ("doc_to_choice", {"doc"}),
        ("doc_to_prefix", {"doc"}),
        ("aggregation", set()),
        ("higher_is_better", set()),
    ],
)
def test_a_task_can_be_asked(method, needed):
    from lm_eval.api.task import ConfigurableTask

    assert needed <= parameters(getattr(ConfigurableTask, method)), f"{method} has changed"


def test_filters_take_instances_and_leave_their_results_by_name():
    from lm_eval.api.filter import FilterEnsemble
    from lm_eval.api.instance import Instance

    names = [field.name for field in fields(Instance)]
    assert names[:4] == ["request_type", "doc", "arguments", "idx"]
    assert {"resps", "filtered_resps"} <= set(names)
    assert {field.name for field in fields(FilterEnsemble)} == {"name", "filters"}


def test_means_are_known_by_name():
    from lm_eval.api.registry import get_aggregation

    assert callable(get_aggregation("mean"))
    assert callable(get_aggregation("nanmean"))
