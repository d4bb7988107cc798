"""A model of two policies is split, one of one is not, and the numbers are those of its logits."""

import math
import shutil

import numpy as np
import pytest
from diverged import PLAIN, answers, check_entropies, cross_scores, diverge, psplit, read, sampled

from psplit_eval.store import Store

# What the answer is


@pytest.mark.slow
def test_untrained_smollm2_is_not_split(smollm2, tmp_path):
    run = sampled(
        "smollm2-135m", tmp_path / "run", "--modes", "normal,high", docs=7, samples=2, tokens=12
    )
    assert answers(run)["split", "high"]["verdict"] == "no"
    (split,) = read(run)["splits"]
    assert 0 < split["kl_bits"]["value"] < 0.5
    assert len(read(run)["placebos"]) == 3
    check_entropies(run)


@pytest.fixture(scope="module")
def split_run(split_model, tmp_path_factory):
    """Of a model that was trained to be two policies."""
    out = tmp_path_factory.mktemp("runs") / "split"
    modes = ["--modes", "normal,high", *PLAIN]
    return sampled(split_model, out, *modes, docs=12, samples=3, tokens=12)


def directly(model, prompt, response):
    """log2-probabilities of every position by one plain call in double precision."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return (logits.log_softmax(-1) / math.log(2)).numpy()


@pytest.fixture(scope="module")
def by_hand(split_run, split_model):
    """mode → policy → sums over all samples of tokens, entropy, surprisal, KL(mode‖policy) and
    Jensen–Shannon, by transformers and numpy from prompts that the chat template makes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(split_model).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(split_model)
    systems = {
        mode["name"]: mode["system_prompt"] for mode in read(split_run, "manifest.json")["modes"]
    }
    systems |= read(split_run)["placebos"]
    found = {}
    with Store(split_run / "samples.sqlite") as store:
        docs = {doc.doc_id: doc.doc for doc in store.docs()}
        for sample in store.samples():
            row = docs[sample.doc_id]
            asked = f"What is {row['a']} + {row['b']}? Answer in one line with a number."
            logs = {}
            for policy, system in systems.items():
                start = [{"role": "system", "content": system}] if system else []
                prompt = tokenizer.apply_chat_template(
                    [*start, {"role": "user", "content": asked}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
                ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
                logs[policy] = directly(model, ids, sample.completion_ids)
            own = logs[sample.mode]
            for policy, q in logs.items():
                chosen = q[range(len(q)), list(sample.completion_ids)]
                middle = np.log2((2**own + 2**q) / 2)
                js = (2**own * (own - middle) + 2**q * (q - middle)).sum() / 2
                numbers = [len(q), -(2**q * q).sum(), -chosen.sum(), (2**own * (own - q)).sum(), js]
                cell = found.setdefault(sample.mode, {}).setdefault(policy, np.zeros(5))
                cell += numbers
    return found


def test_a_model_of_two_policies_is_split(split_run):
    found = answers(split_run)["split", "high"]
    assert found["verdict"] == "yes"
    assert (found["mode_a"], found["question"]) == ("normal", "split")
    (split,) = read(split_run)["splits"]
    assert split["tasks"] == ["psplit_sums"]
    assert split["kl_bits"]["ci_low"] > 1
    assert split["entropy_gap_bits"]["ci_low"] > 1
    assert len(split["beyond_placebos"]) == 7  # two of each placebo, and the gap itself
    assert all(each["excess"] > 1 and each["p"] < 1e-3 for each in split["beyond_placebos"])
    check_entropies(split_run)


def test_numbers_are_sums_over_the_whole_vocabulary(split_run, by_hand):
    written = {
        (f["mode_a"], f["mode_b"], f["measure"]): f["value"]
        for f in read(split_run)["findings"]
        if f["unit"] == "bits a token"
    }
    assert len(written) == 10
    for mode, policy in (("normal", "high"), ("high", "normal")):
        tokens, entropy, surprisal, kl, js = by_hand[mode][policy]
        own = by_hand[mode][mode]
        expected = {
            "kl_bits": kl / tokens,
            "js_bits": js / tokens,
            "kl_sampled_bits": (surprisal - own[2]) / tokens,
            "surprisal_gap_bits": (surprisal - own[2]) / tokens,
            "entropy_gap_bits": (entropy - own[1]) / tokens,
        }
        for measure, value in expected.items():
            assert written[mode, policy, measure] == pytest.approx(value, rel=1e-6, abs=1e-6)
    matrix = {(m["mode"], m["policy"]): m["kl_bits"]["value"] for m in read(split_run)["matrix"]}
    assert matrix["high", "normal"] == pytest.approx(written["high", "normal", "kl_bits"])


def test_the_excess_over_a_placebo_is_that_of_direct_sums(split_run, by_hand):
    at = by_hand["normal"]
    (split,) = read(split_run)["splits"]
    for each in split["beyond_placebos"]:
        row = {"kl": 3, "entropy": 1}[each["measure"]]
        gap = (at["high"][row] - at[each["placebo"]][row]) / at["normal"][0]
        assert each["excess"] == pytest.approx(gap, rel=1e-6, abs=1e-6)


def test_only_modes_keep_the_numbers_of_every_token(split_run):
    for (mode, _, _, policy), score in cross_scores(split_run).items():
        assert (score.by_token is None) == policy.startswith("placebo")
        assert mode == "normal" or not policy.startswith("placebo")


def test_the_report_says_it_first(split_run, capsys):
    assert psplit("report", split_run) == 0
    out = capsys.readouterr().out
    assert "Split (high beside normal): yes." in out
    first = {
        "report.md": "Split (high beside normal): **yes**.",
        "report.html": '<span class="answer yes">yes</span>\n'
        "<span><strong>Split (high beside normal)</strong>",
    }
    for name, answer in first.items():
        text = (split_run / name).read_text()
        assert answer in text
        assert "Beyond the placebos" in text
        assert "Tokens that carry the divergence" in text
    texts = {entry["text"] for entry in read(split_run)["tokens"]}
    assert texts & {"Anna", " books", " 3", "<|im_end|>", " has"}


def test_margins_of_the_command_line_decide(split_run, tmp_path):
    run = shutil.copytree(split_run, tmp_path / "run")
    assert psplit("report", run, "--split-kl", "5") == 0
    assert answers(run)["split", "high"]["verdict"] == "no"
    assert read(run)["margins"] == {"kl": 5.0, "entropy": 0.05, "accuracy": 0.02, "quality": 0.05}
    more = ["--split-entropy", "4", "--keep-accuracy", "0.9", "--keep-quality", "0.2"]
    assert diverge(run, *more) == 0
    assert answers(run)["split", "high"]["verdict"] == "no"
    assert answers(run)["accuracy kept", "high"]["verdict"] == "yes"
    assert "may lose 0.9" in answers(run)["accuracy kept", "high"]["evidence"]
