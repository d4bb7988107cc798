"""Which task a name stands for."""

import shutil

import pytest

from psplit_eval.catalog import Catalog, read_yaml
from psplit_eval.errors import UnknownNameError, UsageError

TASK = "task: {name}\ndataset_path: json\noutput_type: generate_until\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name) + "tag: [numbers]\n")
    return tmp_path


def group(folder, text):
    (folder / "_group.yaml").write_text(text)
    return Catalog([folder])


def names(sources):
    return [source.name for source in sources]


def test_the_users_folder_comes_first(tmp_path):
    (tmp_path / "mine.yaml").write_text(TASK.format(name="psplit_sums"))
    assert Catalog([tmp_path]).tasks["psplit_sums"].path == tmp_path / "mine.yaml"
    with pytest.raises(UsageError, match="existing folder"):
        Catalog([tmp_path / "nowhere"])


def test_a_tag_stands_for_its_tasks(folder):
    assert names(Catalog([folder]).members("numbers")) == ["one", "three", "two"]


@pytest.mark.slow
def test_a_group_keeps_its_order_and_says_more_of_its_members(folder):
    catalog = group(
        folder,
        "group: all\nnum_fewshot: 2\ntask:\n  - two\n  - {task: one, num_fewshot: 5}\n"
        "  - {group: inner, description: hard, task: [three]}\n",
    )
    two, one, three = catalog.members("all")
    assert (two.name, two.overrides) == ("two", {"num_fewshot": 2})
    assert (one.name, one.overrides) == ("one", {"num_fewshot": 5})
    assert (three.name, three.overrides) == ("three", {"num_fewshot": 2, "description": "hard"})
    assert three.config()["dataset_path"] == "json"
    assert not catalog.is_pool("all")


@pytest.mark.parametrize(("weighted", "pool"), [("true", True), ("false", False)])
def test_a_group_weighted_by_size_is_a_pool(folder, weighted, pool):
    catalog = group(
        folder,
        "group: all\ntask: [one, two]\naggregate_metric_list:\n"
        f"  - {{metric: acc, aggregation: mean, weight_by_size: {weighted}}}\n",
    )
    assert catalog.is_pool("all") is pool
    assert catalog.groups["all"] == ("one", "two")


def test_a_task_inside_a_groups_file_is_refused(folder):
    catalog = group(folder, "group: all\ntask: [{task: four, dataset_path: json}]\n")
    with pytest.raises(UsageError, match="'four' is defined inside the group's file"):
        catalog.members("all")


def test_a_pattern_finds_tasks_of_every_origin(folder):
    catalog = Catalog([folder])
    assert names(catalog.members("tw?")) == ["two"]
    assert "psplit_sums" in names(catalog.members("psplit_*"))
    assert {"gsm8k": "task", "gsm8k_cot": "task"}.items() <= catalog.matching("gsm8k*").items()
    with pytest.raises(UnknownNameError, match="task pattern 'xyz"):
        catalog.members("xyz*")


def test_an_unknown_task_gets_a_guess_from_all_but_lists_the_near(folder):
    with pytest.raises(UnknownNameError, match="did you mean 'psplit_sums'") as caught:
        Catalog([folder]).members("psplit_sum")
    assert "hellaswag" not in str(caught.value)


def test_lm_evals_own_groups_resolve():
    catalog = Catalog()
    assert len(catalog.members("mmlu_pro")) == 14
    assert catalog.is_pool("mmlu_pro")


def test_a_broken_file_is_named(tmp_path, folder):
    shutil.copy(folder / "one.yaml", folder / "bad.yaml")
    (folder / "bad.yaml").write_text("task: !function utils.nothing\n")
    with pytest.raises(UsageError, match=r"bad\.yaml': lm-eval cannot read it"):
        read_yaml(folder / "bad.yaml")
