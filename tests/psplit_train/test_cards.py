"""A model card says how a checkpoint was made, and what users give is no markup in it.

Front matter is read by huggingface_hub, Markdown by markdown-it, which know nothing of psplit.
"""

import json
import math
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psplit_eval.errors import DataError
from psplit_train.cards import Facts, Measured, installed_versions, model_card, source_name
from psplit_train.checkpoints import write_modes
from psplit_train.config import Config

SHA = "ab" * 32


def config(**sections):
    given = {"model": {"checkpoint": "Qwen/Qwen3-1.7B"}, "data": {"hub": "zwhe99/DeepMath-103K"}}
    return Config.model_validate(given | sections)


def facts(**more):
    return Facts(**{"step": 40, "rows": 2000, "held_out": 100, "dropped": 9, "sha256": SHA} | more)


def log(folder, lines):
    path = folder / "training_log.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def front(card):
    from huggingface_hub import ModelCard

    return ModelCard(card).data.to_dict()


def tokens(card):
    """Every block and inline token of the card's body, as a parser of Markdown sees it."""
    from markdown_it import MarkdownIt

    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    for token in MarkdownIt("commonmark").enable("table").parse(body):
        yield token
        yield from token.children or ()


def tables(card):
    """All rows of all tables, cell by cell, as they are read."""
    rows, wanted = [], False
    for token in tokens(card):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("th_open", "td_open"):
            wanted = True
            rows[-1].append("")
        elif token.type in ("th_close", "td_close"):
            wanted = False
        elif wanted and token.type in ("text", "code_inline", "text_special"):
            rows[-1][-1] += token.content
    return rows


def fences(card):
    return [(token.info, token.content) for token in tokens(card) if token.type == "fence"]


def test_the_hub_finds_base_data_and_library_in_the_front_matter():
    assert front(model_card(config(), facts())) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "Qwen/Qwen3-1.7B",
        "datasets": ["zwhe99/DeepMath-103K"],
        "tags": ["psplit", "trl", "reinforcement-learning", "policy-split"],
    }


def test_an_adapter_is_of_the_library_peft():
    model = {"checkpoint": "Qwen/Qwen3-1.7B", "lora": {"rank": 8}}
    card = model_card(config(model=model), facts())
    assert front(card)["library_name"] == "peft"
    assert "--model BASE --adapter FOLDER" in card
    assert ["model.lora.rank", "8"] in tables(card)


def test_a_folder_on_this_machine_is_named_without_its_place(tmp_path):
    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    rows = tmp_path / "secret" / "rows.jsonl"
    card = model_card(config(model={"checkpoint": str(folder)}, data={"file": str(rows)}), facts())
    assert "base_model" not in front(card)
    assert "my-model" in card
    assert ["source", "file rows.jsonl"] in tables(card)
    assert "secret" not in card


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("OWNER/NAME", "OWNER/NAME"),
        ("/no/such/place/model", "model"),
        ("a/b/c", "c"),
    ],
)
def test_names_are_shown_and_places_are_not(given_name, shown):
    assert source_name(given_name) == shown


def test_the_modes_stand_there_with_their_prompts():
    modes = [{"name": "normal"}, {"name": "bold", "system_prompt": "Be bold.", "role": "high"}]
    card = model_card(config(modes=modes), facts())
    assert ("text", "Be bold.\n") in fences(card)
    assert "Role: normal. η: 0. No system message is sent." in card
    assert "Role: high. η: 0.03. System message:" in card
    assert "--modes normal,bold" in card


def test_a_baseline_has_one_mode_and_its_own_settings():
    card = model_card(config(method="clip_cov"), facts())
    rows = dict(row for row in tables(card) if len(row) == 2)
    assert rows["method"] == "clip_cov"
    assert rows["method.covariance_share"] == "0.0002"
    assert "method.eta" not in rows
    assert "in one mode, normal" in card
    assert "arXiv 2604.11510" not in card


def test_what_is_not_the_papers_is_said():
    assert "Not in the paper's method: rarity, target_gap_bits, truncated_weights." in model_card(
        config(method={"name": "policy_split_stable", "rarity": True}), facts()
    )
    assert "Not in the paper's method" not in model_card(config(), facts())


def test_data_are_told_by_sum_and_size():
    rows = dict(row for row in tables(model_card(config(), facts())) if len(row) == 2)
    assert rows["their SHA-256"] == SHA
    assert rows["prompts trained on"] == "2,000"
    assert rows["prompts held out"] == "100"
    assert rows["prompts that share 13 words in a row with an evaluation set"] == "9 dropped"
    data = {"task": "sums", "decontaminate": False}
    card = model_card(config(data=data), facts())
    rows = dict(row for row in tables(card) if len(row) == 2)
    assert rows["source"] == "generated task sums, seed 0"
    assert rows["prompts that share 13 words in a row with an evaluation set"] == "not looked for"
    assert "Overlap with evaluation sets." in card


def test_the_curve_has_first_best_and_last_tenths(tmp_path):
    """By hand: 20 steps, so parts of two; rewards are best at steps 11 and 12."""
    lines = [
        {
            "step": step,
            "reward/normal": 0.9 if step in (11, 12) else step / 100,
            "reward/high": 0.1,
            "entropy_bits/high": step,
            "kl_bits/high_normal": None if step == 20 else 2 * step,
        }
        for step in range(1, 21)
    ]
    card = model_card(config(), facts(log=log(tmp_path, lines)))
    rows = tables(card)
    assert ["reward", "normal", "0.015", "0.9", "0.195"] in rows
    assert ["entropy (bits)", "high", "1.5", "11.5", "19.5"] in rows
    assert ["KL (bits)", "high_normal", "3", "23", "38"] in rows
    header = ["measure", "mode", "first, steps 1–2", "best, steps 11–12", "last, steps 19–20"]
    assert header in rows


def test_a_short_log_and_a_log_without_rewards_have_a_curve(tmp_path):
    rows = tables(model_card(config(), facts(log=log(tmp_path, [{"step": 1, "reward/high": 0.5}]))))
    assert ["reward", "high", "0.5", "0.5", "0.5"] in rows
    path = log(tmp_path, [{"step": 1, "entropy_bits/high": 0.5}])
    rows = tables(model_card(config(), facts(log=path)))
    assert ["entropy (bits)", "high", "0.5", "0.5"] in rows
    assert "Nothing was logged." in model_card(config(), facts(log=log(tmp_path, [{"step": 1}])))
    assert "Nothing was logged." in model_card(config(), facts())


def test_a_log_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "training_log.jsonl").write_text("no JSON\n\n")
    with pytest.raises(DataError, match="line 1"):
        model_card(config(), facts(log=tmp_path / "training_log.jsonl"))


def test_alarms_are_listed_and_their_absence_is_told_from_nobody_looking():
    card = model_card(config(), facts(alarms=["step 33: entropy of high"]))
    assert ["step 33: entropy of high"] in tables(card)
    assert "None was raised." in model_card(config(), facts())
    off = dict.fromkeys(("entropy_factor", "collapse_share", "kl_bits", "dead_share"))
    assert "All were turned off." in model_card(config(stability={"alarms": off}), facts())


def test_an_evaluation_is_shown_with_its_interval():
    measured = [
        Measured("held_out", "normal", "accuracy_avg", 0.5, 0.4, 0.6),
        Measured("held_out", "high", "entropy_bits", 1.25, math.nan, math.nan),
        Measured("held_out", "high", "words_mean", 12.0, 11.0, 13.0),
    ]
    card = model_card(config(), facts(evaluated=measured))
    assert ["held_out", "normal", "accuracy_avg", "0.5", "0.4 to 0.6"] in tables(card)
    assert ["held_out", "high", "entropy_bits", "1.25", "undefined"] in tables(card)
    assert "words_mean" not in card
    assert "Prompts that it was not trained on." not in card
    assert "Prompts that it was not trained on." in model_card(config(), facts())


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
    | st.sampled_from(["```\n# a heading\n```", "````", "~~~\n<script>x</script>", "\n---\n# x"]),
    alarm=st.sampled_from(["<b>x</b>", "[a](http://b)", "# x", "`x`", "a | b", "*x*\n# y"]),
    name=st.sampled_from(["a|b.jsonl", "<i>.jsonl", "`x`.jsonl", "[a](b).jsonl", "x\n# y.jsonl"]),
)
@settings(max_examples=40)
def test_nothing_that_users_give_is_markup(prompt, alarm, name):
    modes = [{"name": "normal"}, {"name": "own", "system_prompt": prompt}]
    card = model_card(
        config(modes=modes, data={"file": name}), facts(alarms=[alarm], versions={"psplit": "1"})
    )
    plain = model_card(
        config(modes=[{"name": "normal"}, {"name": "own", "system_prompt": "Be."}],
               data={"file": "rows.jsonl"}),
        facts(alarms=["x"], versions={"psplit": "1"}),
    )  # fmt: skip
    headings = ("heading_open", "hr", "fence", "tr_open", "td_open", "list_item_open")
    kinds = (*headings, "link_open", "html_inline", "html_block", "em_open", "strong_open")
    count = [[token.type for token in tokens(text)].count for text in (card, plain)]
    assert [count[0](kind) for kind in kinds] == [count[1](kind) for kind in kinds]


def test_a_prompt_that_turns_text_round_is_shown_by_its_codes():
    modes = [{"name": "normal"}, {"name": "own", "system_prompt": "a\u202eb"}]
    assert "a⟨U+202E⟩b" in model_card(config(modes=modes), facts())


def test_versions_are_those_installed():
    import trl

    assert installed_versions()["trl"] == trl.__version__
    assert ["trl", trl.__version__] in tables(model_card(config(), facts()))


def test_the_code_in_the_card_runs(tiny, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "final"
    shutil.copytree(tiny, folder)
    trained = config(model={"checkpoint": str(tiny)}, train={"max_new_tokens": 4})
    write_modes(folder, [mode.mode() for mode in trained.modes])
    (code,) = (text for kind, text in fences(model_card(trained, facts())) if kind == "python")
    monkeypatch.chdir(folder)
    found: dict = {}
    exec(compile(code, "card", "exec"), found)
    assert found["prompt"] == trained.modes[1].mode().system_prompt
    assert 1 <= found["answer"].shape[1] - found["inputs"]["input_ids"].shape[1] <= 4
