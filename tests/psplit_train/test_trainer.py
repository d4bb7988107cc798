"""The trainer on a tiny model, against TRL's own and against plain forward passes."""

import dataclasses
import math

import pytest
import torch
from datasets import Dataset
from split_reference import policy_split_advantages
from training_cases import (
    FirstCharacter,
    Watched,
    arguments,
    model,
    plain_scores,
    questions,
    tokenizer,
    trainer,
    weights,
)
from trl import GRPOTrainer

from psplit_eval.errors import UsageError

STRONG = {"eta": 0.5, "kappa": 0.0}


@pytest.mark.parametrize("parts", [1, 2, 8], ids=["one_pass", "groups", "scored_ahead"])
@pytest.mark.parametrize(
    "method",
    [{}, STRONG, {"sharing": "off", **STRONG}, {"truncated_weights": 1.0, "sharing": "to_normal"}],
    ids=["published", "strong", "off", "one_way"],
)
def test_weights_equal_the_reference_on_plain_forward_passes(tmp_path, method, parts):
    made = trainer(tmp_path, method, parts=parts, kind=Watched)
    made.train()
    assert made.one_pass == (parts < 8)
    network, settings = model(), made.method
    drawn = made._drawn
    rows = []  # (query, mode that drew, completion, {mode: weights given})
    for (inputs, taken), flat in zip(made.batches, made.flat, strict=True):
        given = torch.full((*taken.shape, inputs["mask"].shape[1]), math.nan)
        given[taken] = flat["advantages"]
        for row in range(len(inputs["samplers"])):
            ids = inputs["completions"][row][inputs["mask"][row]].tolist()
            rows.append(
                (int(inputs["queries"][row]), int(inputs["samplers"][row]), ids, given[:, row])
            )
    rows.sort(key=lambda row: row[:2])
    width = max(len(ids) for _, _, ids, _ in rows)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    scores = torch.zeros(2, 2, len(rows), width, dtype=torch.float64)
    for number, (query, _, ids, _) in enumerate(rows):
        mask[number, : len(ids)] = True
        for mode in range(2):
            found = plain_scores(network, drawn.prompts[query][mode], ids)
            scores[:, mode, number, : len(ids)] = torch.stack(found)
    right = FirstCharacter().right
    texts = [made.template.decode(ids) for _, _, ids, _ in rows]
    expected = policy_split_advantages(
        torch.tensor([float(bool(t) and t[0] in right) for t in texts]).double().numpy(),
        torch.tensor([sampler for _, sampler, _, _ in rows]).numpy(),
        mask.numpy(),
        scores[0].numpy(),
        scores[1].numpy(),
        group=8,
        eta=list(made.split.etas),
        reference=[0, 0],
        takes=[list(row) for row in made.split.takes],
        kappa=settings.kappa,
        truncated_weights=settings.truncated_weights,
    )
    found = torch.stack([row[3][:, :width] for row in rows], dim=1)
    for mode, number in torch.ones(2, len(rows)).nonzero().tolist():
        if made.split.takes[mode][rows[number][1]]:
            length = len(rows[number][2])
            torch.testing.assert_close(
                found[mode, number, :length].double(),
                torch.tensor(expected[mode, number, :length]),
                rtol=1e-4,
                atol=1e-5,
            )


def test_responses_are_trained_with_the_very_tokens_that_were_drawn(tmp_path):
    """Both quarters of a response hold the same ids, the end of sequence included, under the ids
    of each mode's prompt; and the trained policy is at ratio 1 before the first update."""
    made = trainer(tmp_path, STRONG, modes=("normal", "long"), kind=Watched)
    drawn = []
    whole = made._generate_single_turn

    def watched(prompts, *rest):
        found = whole(prompts, *rest)
        drawn.extend(zip(prompts, found[0], strict=True))
        return found

    made._generate_single_turn = watched
    made.train()
    (inputs, taken), flat = made.batches[0], made.flat[0]
    assert taken.all()
    assert len(flat["completion_ids"]) == 2 * len(drawn)
    ended = 0
    for prompt, ids in drawn:
        where = [made._drawn.prompts[q][m] for q in range(4) for m in range(2)].index(tuple(prompt))
        query, sampler = divmod(where, 2)
        same = (inputs["queries"] == query) & (inputs["samplers"] == sampler)
        found = [
            inputs["completions"][row][inputs["mask"][row]].tolist()
            for row in same.nonzero()[:, 0].tolist()
        ]
        assert ids in found
        ended += ids[-1] == 1
    assert ended, "no response ended by itself: the test saw no end of sequence"
    halves = flat["completion_ids"].chunk(2)
    assert torch.equal(*halves)
    metrics = made.state.log_history[0]
    quarters = [name for name in metrics if name.startswith("ratio/")]
    assert len(quarters) == 4
    assert all(metrics[name] == 1.0 for name in quarters)
    normal, high = made._drawn.prompts[0]
    assert made.template.decode(high).startswith("abcdefgh")
    assert high[-len(normal) :] == normal


def test_no_bonus_and_no_sharing_is_trls_grpo_step_for_step(tmp_path):
    """Every mode's own responses, weighed within its own group: TRL's GRPO on a data set that asks
    each question once in each mode."""
    made = trainer(
        tmp_path, {"eta": 0.0, "sharing": "off"}, steps=3, parts=8, shuffle_dataset=False
    )
    made.train()
    asked = [
        {"prompt": ([{"role": "system", "content": "h"}] if high else []) + row["prompt"]}
        for row in questions()
        for high in (False, True)
    ]
    settings = arguments(tmp_path, queries=8, group=4, steps=3, parts=8, shuffle_dataset=False)
    theirs = GRPOTrainer(
        model=model(),
        args=settings,
        reward_funcs=[FirstCharacter()],
        processing_class=tokenizer(),
        train_dataset=Dataset.from_list(asked),
    )
    theirs.train()
    for name in ("loss", "reward", "grad_norm"):
        ours = [row[name] for row in made.state.log_history[:3]]
        assert ours == pytest.approx([row[name] for row in theirs.state.log_history[:3]], abs=1e-5)
    torch.testing.assert_close(weights(made), weights(theirs), rtol=0, atol=2e-5)
    assert (weights(made) - weights_at_start()).abs().max() > 1e-3


def test_rollouts_are_those_of_trls_own_generation(tmp_path):
    """Drawn with each prompt run once, and by TRL: the same tokens from the same seed."""
    drawn = []
    for share in (True, False):
        made = trainer(tmp_path, {}, modes=("normal", "long"), share_prefixes=share, top_k=9)
        made.train()
        drawn.append(made._drawn.texts)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 16


def test_settings_of_generation_that_only_transformers_knows_are_heeded(tmp_path):
    made = trainer(tmp_path, {}, generation_kwargs={"suppress_tokens": list(range(5, 15))})
    made.train()
    assert not any(set(text) & set("0123456789") for text in made._drawn.texts)


def test_a_step_runs_no_position_twice(tmp_path):
    """Under every mode each response, and each query's prompt once: padded to the longest."""
    made = trainer(tmp_path, {}, modes=("normal", "long"), parts=2, kind=Watched)
    seen = []
    made.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(
            (torch.is_grad_enabled(), *kwargs["input_ids"].shape)
        ),
        with_kwargs=True,
    )
    made.train()
    prompts = max(len(prompt) for query in made._drawn.prompts for prompt in query)
    widths = [int(inputs["mask"].any(0).sum()) for inputs, _ in made.batches]
    passes = [((True, 4, prompts - 1), (True, 32, width)) for width in widths]
    assert [shape for shape in seen if shape[0]] == [one for both in passes for one in both]


def weights_at_start():
    return torch.cat([p.detach().flatten() for p in model().parameters()])


def test_grpo_as_a_method_is_trls_grpo_step_for_step(tmp_path):
    made = trainer(tmp_path, {"name": "grpo"}, steps=3, parts=8)
    made.train()
    theirs = GRPOTrainer(
        model=model(),
        args=arguments(tmp_path, steps=3, parts=8),
        reward_funcs=[FirstCharacter()],
        processing_class=tokenizer(),
        train_dataset=Dataset.from_list(questions()),
    )
    theirs.train()
    torch.testing.assert_close(weights(made), weights(theirs), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "share",
    [pytest.param(True, id="shared"), pytest.param(False, id="padded", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("method", "loss"),
    [(STRONG, "dapo"), ({"sharing": "off", **STRONG}, "dapo"), ({"sharing": "to_normal"}, "grpo")],
    ids=["on", "off", "one_way"],
)
def test_micro_batches_change_nothing_but_rounding(tmp_path, share, method, loss):
    """One update of one batch of responses, cut in one, two and sixteen parts; some of those have
    rows of one mode only."""
    found = []
    for parts in (1, 2, 16):
        made = trainer(tmp_path, method, parts=parts, share_prefixes=share, loss_type=loss)
        made.train()
        found.append(weights(made))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=0, atol=2e-5)


def test_several_updates_on_the_same_responses(tmp_path):
    """The ratio leaves 1 in the second update only, and old log-probabilities are the first's."""
    made = trainer(tmp_path, STRONG, steps=4, iterations=2, parts=2)
    made.train()
    ratios = [row["ratio/high_normal"] for row in made.state.log_history[:4]]
    assert ratios[0] == pytest.approx(1, abs=1e-6)
    assert ratios[2] == pytest.approx(1, abs=1e-6)
    assert abs(ratios[1] - 1) > 1e-4
    assert abs(ratios[3] - 1) > 1e-4


def test_three_modes_each_with_its_own_sign(tmp_path):
    """All modes train on all responses; the sign of its eta says where a mode's entropy goes."""
    entropy = {}
    for eta in (-1.0, 1.0):
        modes = [
            {"name": "normal"},
            {"name": "high", "system_prompt": "h", "role": "high", "eta": 0.5},
            {"name": "low", "system_prompt": "l", "role": "low", "eta": eta},
        ]
        method = {"kappa": 0.0, "truncated_weights": 1.0}
        made = trainer(tmp_path, method, modes, group=12, steps=8)
        made.train()
        last = made.state.log_history[7]
        entropy[eta] = last["entropy_bits/low"]
    assert entropy[-1.0] < entropy[1.0] - 0.5
    names = [mode["name"] for mode in modes]
    assert all(f"ratio/{a}_{b}" in last for a in names for b in names)
    assert all(f"kl_bits/{a}_normal" in last for a in names[1:])


def test_a_kl_term_holds_every_mode_to_the_start(tmp_path):
    free = trainer(tmp_path, STRONG, steps=4)
    free.train()
    held = trainer(tmp_path, STRONG, steps=4, beta=5.0)
    held.train()
    moved = (weights(free) - weights_at_start()).norm()
    assert (weights(held) - weights_at_start()).norm() < moved


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss_type": "vespo"}, "loss_type 'vespo': expected dapo or grpo"),
        ({"scale_rewards": "batch"}, "scale_rewards 'batch': expected group"),
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile 0.2: expected 1.0"),
        ({"group": 9, "queries": 4}, "num_generations 9: expected a multiple of 2 modes"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        trainer(tmp_path, **settings)


def test_the_log_has_every_measure_of_every_mode(tmp_path):
    made = trainer(tmp_path, {}, steps=1)
    made.train()
    logged = made.state.log_history[0]
    for name in ("reward", "entropy_bits", "length", "unique"):
        assert {f"{name}/normal", f"{name}/high"} <= set(logged), name
    for name in ("kl_bits/high_normal", "kl_bits/normal_high", "bonus/high", "clamped/high"):
        assert math.isfinite(logged[name])
    assert 0 <= logged["dead_groups"] <= 1
    assert logged["eta/high"] == 0.03


def test_an_entropy_term_is_of_the_high_modes_own_responses(tmp_path):
    """The loss falls by its weight times the part of their entropy in a step's mean over tokens."""
    found = []
    for weight in (0.0, 0.5):
        made = trainer(tmp_path, {"entropy_term": weight}, kind=Watched)
        made.train()
        found.append(made.state.log_history[0])
        (inputs, _), flat = made.batches[0], made.flat[0]
    own = (inputs["samplers"] == 1)[:, None] & inputs["mask"]
    share = float(own.sum() / flat["num_items_in_batch"])
    entropy = found[0]["entropy_bits/high"] * math.log(2)
    assert found[0]["loss"] - found[1]["loss"] == pytest.approx(0.5 * entropy * share, rel=1e-4)


def test_rarity_is_in_the_high_modes_rewards_alone(tmp_path):
    """A right answer counts the less, the more often the eight responses to a question gave it."""
    made = trainer(tmp_path, {"eta": 0.0, "rarity": True}, kind=Watched)
    made.reward = made.reward_funcs[0] = FirstCharacterAsAnswer()
    made.train()
    rewards = torch.tensor([float(one.correct) for one in made._drawn.graded])
    answers = [one.key if one.correct else None for one in made._drawn.graded]
    rare = [
        reward / answers[row // 8 * 8 :][:8].count(answers[row])
        for row, reward in enumerate(rewards.tolist())
    ]
    by_mode = torch.stack([rewards, torch.tensor(rare)]).view(2, 4, 8)
    spread = by_mode.std(2, keepdim=True) + 1e-4
    expected = ((by_mode - by_mode.mean(2, keepdim=True)) / spread).flatten(1)
    assert any(0 < one < 1 for one in rare), "no right answer came twice: it was not tested"
    given = made.flat[0]["advantages"][:, 0].view(2, -1)
    assert sorted(given[0].tolist()) == pytest.approx(sorted(expected[0].tolist()), abs=1e-5)
    assert sorted(given[1].tolist()) == pytest.approx(sorted(expected[1].tolist()), abs=1e-5)


class FirstCharacterAsAnswer(FirstCharacter):
    """Two responses that begin alike give the same answer."""

    def __call__(self, prompts, completions, completion_ids, **columns):
        earned = super().__call__(prompts, completions, completion_ids, **columns)
        self.graded = [dataclasses.replace(one, key=one.key[:1]) for one in self.graded]
        return earned
