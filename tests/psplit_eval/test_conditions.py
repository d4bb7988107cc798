"""What two arms differ in."""

from boarding import make_run

from psplit_eval.conditions import differences, same_docs
from psplit_eval.stored import opened_run


def of(folder, mode):
    with opened_run(folder) as run:
        arm = run.arm("t", mode)
        return run.conditions(arm)


def kinds(a, b):
    return [(found.kind, found.because) for found in differences(a, b)]


def test_equal_rows_are_paired_in_their_order():
    before = {0: ("x", "p"), 1: ("y", "p"), 2: ("x", "p")}
    after = {5: ("x", "p"), 6: ("x", "p"), 7: ("x", "p"), 8: ("z", "p")}
    assert same_docs(before, after) == {5: 0, 6: 2, 7: 5, 8: 6}  # two that `before` lacks


def test_conditions_are_those_of_the_mode(tmp_path):
    entry = {"sampling_by_mode": {"high": {"temperature": 1.2}}, "few_shot": {"examples": 2}}
    run = make_run(tmp_path / "a", entry=entry)
    normal, high = of(run, "normal"), of(run, "high")
    assert (normal.sampling["temperature"], high.sampling["temperature"]) == (0.6, 1.2)
    assert high.task_sampling == normal.sampling
    assert (normal.system_prompt, high.system_prompt) == (None, "Be high.")
    assert (high.where, high.fingerprint, len(high.docs)) == ("t, high", "of one", 12)
    assert kinds(normal, high) == []  # a mode's own settings belong to it


def test_what_explains_other_prompts(tmp_path):
    plain = of(make_run(tmp_path / "a"), "high")
    again = of(make_run(tmp_path / "b"), "high")
    other = of(make_run(tmp_path / "c", prompt="other"), "high")
    bold = of(make_run(tmp_path / "d", prompt="d", modes={"high": "Be bold."}), "high")
    template = of(make_run(tmp_path / "e", prompt="e", chat_template="new"), "high")
    assert kinds(plain, again) == []
    assert kinds(plain, other) == [("prompts", ())]
    assert kinds(plain, bold) == [("prompts", ("the mode's system prompt",))]
    assert kinds(plain, template) == [("prompts", ("the chat template",))]


def test_settings_of_the_task_count_between_modes(tmp_path):
    one = of(make_run(tmp_path / "a"), "normal")
    other = of(make_run(tmp_path / "b", sampling={"top_p": 1.0}, entry={"few_shot": {}}), "high")
    found = list(differences(one, other))
    assert [(each.kind, each.where, each.a, each.b) for each in found] == [
        ("prompts", "t, normal, examples before", None, {}),
        ("sampling", "t, normal, top_p", 0.95, 1.0),
    ]
