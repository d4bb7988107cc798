"""What fails hours later is found before the first step, in a run and in its dry run."""

import pytest

from psplit_eval.errors import DataError, TemplateError, UnknownNameError, UsageError
from psplit_train.loading import read_config
from psplit_train.rehearsal import rehearse

CONFIG = """
model: {tiny: {layers: 1, width: 32, heads: 2, context: 40, characters: "0123456789+*"}}
data: {task: sums, instruction: "", held_out: 6}
modes: [normal, {name: high, system_prompt: "*", role: high}]
train: {steps: 4, queries: 2, rollouts: 4, max_new_tokens: 8}
"""


def rehearsed(folder, *sets):
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return rehearse(read_config(path, sets), 1, lambda text: None)


def test_a_config_that_can_be_trained_passes_and_leaves_nothing(tmp_path):
    data = rehearsed(tmp_path, "evaluate={samples: 2}")
    assert (len(data.train), len(data.held_out)) == (16, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("setting", "kind", "said"),
    [
        ("modes.high.system_prompt=null", TemplateError, "the same prompt"),
        ("modes.high.system_prompt=hello", DataError, "no token for 'h'"),
        ("train.queries=17", UsageError, "at most the 16 prompts"),
        ("train.schedule=cosinus", UsageError, "train.schedule 'cosinus': expected one of linear"),
        ("train.trl.bta=1", UsageError, "did you mean 'beta'"),
        ("log.report_to=[tensorbord]", UsageError, "log.report_to 'tensorbord'"),
        ("model.chat_template=nowhere.jinja", DataError, "nowhere.jinja"),
        pytest.param(
            "evaluate={tasks: [nowhere]}",
            UnknownNameError,
            "unknown task 'nowhere'",
            marks=pytest.mark.slow,
        ),
        ("warmup={steps: 2, keep: {requests: nowhere.txt}}", DataError, "nowhere.txt"),
        ("evaluate={modes: [loud]}", UnknownNameError, "unknown mode 'loud'"),
        ("evaluate={options: {nope: 1}}", UsageError, "--nope"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, setting, kind, said):
    with pytest.raises(kind) as refused:
        rehearsed(tmp_path, setting)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_prompt_and_its_response_have_to_fit_into_the_context(tmp_path):
    """<system> * <user> 2 7 <assistant>: six tokens, and 34 are left of 40."""
    rehearsed(tmp_path, "train.max_new_tokens=34")
    with pytest.raises(
        UsageError, match=r"max_new_tokens 35: .* mode 'high' \(6 tokens\).* of 40;"
    ):
        rehearsed(tmp_path, "train.max_new_tokens=35")
