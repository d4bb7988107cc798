"""What is scored, under which prompts, and what is kept of it: by an engine of plain arithmetic."""

import json
from dataclasses import replace

import numpy as np
import pytest

from psplit_eval.backends import Crossed
from psplit_eval.cross_scoring import Policies, Policy, cross_score, lacking, open_tokens
from psplit_eval.errors import TemplateError
from psplit_eval.modes import Mode
from psplit_eval.store import Prompt, Sample, Store

NORMAL, HIGH = Mode("normal", None, "normal"), Mode("high", "Be wild.", "high")
LOW = Mode("low", "Be calm, please.", "low")
PLACEBOS = [
    Policy("placebo_1", "Sit.", placebo=True),
    Policy("placebo_2", "Stand up.", placebo=True),
]
POLICIES = Policies([NORMAL, HIGH], [LOW], PLACEBOS, "normal")


def rendered(system, doc):
    start = f"<system>{system}</system>" if system else ""
    return f"{start}<user>Question {doc}</user><assistant>"


class Engine:
    """Its numbers say what they are of: a prompt's worth is its length.

    Entropy of a token is the prompt's length plus the token, surprisal the token plus one,
    KL(a‖b) 1000 times the length of a plus that of b, Jensen–Shannon the sum of lengths.
    """

    exact = can_score = True

    def __init__(self, stop_after=None):
        self.cases = []
        self._left = stop_after

    def encode(self, text):
        return tuple(map(ord, text))

    def render(self, messages):
        system = [m["content"] for m in messages if m["role"] == "system"]
        return rendered(system[0] if system else "", "?")

    def token_text(self, token):
        return chr(token)

    def cross_score(self, cases, watch):
        for number, case in reversed(list(enumerate(cases))):
            if self._left == 0:
                raise RuntimeError("the machine is gone")
            self._left = None if self._left is None else self._left - 1
            self.cases.append(case)
            worth = {name: len(ids) for name, ids in case.prompts.items()}
            rows = []
            for response in case.responses:
                tokens, ones = np.array(response, float), np.ones(len(response))
                rows.append(
                    np.stack(
                        [
                            *(worth[name] + tokens for name in case.policies),
                            *(tokens + 1 for _ in case.policies),
                            *((1000 * worth[a] + worth[b]) * ones for a, b in case.pairs),
                            *((1000 * worth[b] + worth[a]) * ones for a, b in case.pairs),
                            *((worth[a] + worth[b]) * ones for a, b in case.pairs),
                        ]
                    )
                )
            watch(sum(map(len, case.responses)), len(case.responses))
            yield number, Crossed(case.policies, case.pairs, rows)


def sample(mode, doc, index, ids=(3, 4), text="said", **changes):
    made = Sample(
        *(mode, "t", doc, index, "h", f"{mode}{doc}{index}", f"{mode}-{doc}", 1, 1, text, None),
        *(ids, "stop", 5, len(ids or ()), 4.0, 1.0, None, 0.1, "now"),
    )
    return replace(made, **changes)


def fill(store, samples, modes=(NORMAL, HIGH), render=rendered, ids=True):
    prompts = {
        Prompt(
            f"{mode.name}-{s.doc_id}",
            mode.name,
            text := render(mode.system_prompt, s.doc_id),
            tuple(map(ord, text)) if ids else (),
        )
        for s in samples
        for mode in modes
        if mode.name == s.mode
    }
    store.add_plan(prompts, [])
    store.add_samples(samples)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "samples.sqlite") as opened:
        yield opened


def grid(docs=3, samples=2):
    return [
        sample(m, d, i) for m in ("normal", "high") for d in range(docs) for i in range(samples)
    ]


def score(store, policies=POLICIES, engine=None):
    engine = engine or Engine()
    placebos = [policy.name for policy in policies.placebos]
    work = lacking(store, policies, ["t"], engine)
    return cross_score(store, engine, work, placebos, lambda tokens, samples: None)


def stored(store):
    return {
        (mode, each.doc_id, each.sample_idx, policy): each
        for mode in ("normal", "high", "low")
        for policy in {name for _, _, name in store.cross_scored("t", mode)}
        for each in store.cross_scores("t", mode, policy)
    }


def worth(policy, doc=0):
    return len(rendered(policy.system_prompt, doc))


def test_every_sample_is_scored_under_every_mode_and_the_references_under_placebos(store):
    fill(store, grid())
    assert score(store) == 12 * 3 + 6 * 2
    found = stored(store)
    assert {key[3] for key in found if key[0] == "normal"} == {
        "normal", "high", "low", "placebo_1", "placebo_2"
    }  # fmt: skip
    assert {key[3] for key in found if key[0] == "high"} == {"normal", "high", "low"}
    assert len(found) == 12 * 3 + 6 * 2


def test_numbers_are_those_of_the_samples_own_mode_against_the_policy(store):
    fill(store, grid())
    score(store)
    found = stored(store)
    w = {p.name: worth(p) for p in POLICIES.every}
    for mode, policy in (
        ("normal", "high"), ("high", "normal"), ("high", "low"), ("normal", "placebo_2")
    ):  # fmt: skip
        each = found[mode, 0, 1, policy]
        assert each.tokens == 2
        assert each.entropy_sum_bits == 2 * w[policy] + 3 + 4
        assert each.nll_sum_bits == 3 + 4 + 2
        assert each.kl_sum_bits == 2 * (1000 * w[mode] + w[policy])
        assert each.kl_back_sum_bits == 2 * (1000 * w[policy] + w[mode])
        assert each.js_sum_bits == 2 * (w[mode] + w[policy])
    own = found["normal", 0, 1, "normal"]
    assert own.kl_sum_bits == own.kl_back_sum_bits == own.js_sum_bits == 0
    assert own.entropy_sum_bits == 2 * w["normal"] + 7


def test_numbers_of_tokens_are_kept_for_modes_alone(store):
    fill(store, grid())
    score(store)
    for (mode, _, _, policy), each in stored(store).items():
        if policy.startswith("placebo"):
            assert each.by_token is None
            continue
        kl, entropy = np.frombuffer(each.by_token, np.float32).reshape(2, -1)
        assert kl.sum() == pytest.approx(each.kl_sum_bits)
        assert entropy.tolist() == [worth(policy_of(policy)) + 3, worth(policy_of(policy)) + 4]
        assert mode in ("normal", "high")


def policy_of(name):
    return {policy.name: policy for policy in POLICIES.every}[name]


def test_prompts_are_the_stored_ones_or_made_of_them(store):
    """A stored prompt's ids are used as they are, even where its text would make other ones."""
    fill(store, [sample("normal", 0, 0)])
    odd = Prompt("high-0", "high", rendered("Be wild.", 0), (7, 7, 7))
    store.add_plan([odd], [])
    store.add_samples([sample("high", 0, 0)])
    engine = Engine()
    score(store, engine=engine)
    case = engine.cases[0]
    assert case.prompts["high"] == (7, 7, 7)
    assert case.prompt_texts["normal"] == rendered(None, 0)
    assert case.prompt_texts["low"] == rendered("Be calm, please.", 0)
    assert case.prompts["low"] == engine.encode(rendered("Be calm, please.", 0))
    assert engine.cases[1].prompt_texts["placebo_1"] == rendered("Sit.", 0)


@pytest.mark.parametrize("short", ["s", "system", "user", ">", "Question 0"])
def test_a_system_prompt_is_found_behind_what_the_template_says_before_it(store, short):
    modes = [NORMAL, Mode("high", short, "high")]
    fill(store, [sample("high", 0, 0)], modes)
    engine = Engine()
    score(store, Policies(modes, [LOW], [], "normal"), engine)
    assert engine.cases[0].prompt_texts["low"] == rendered("Be calm, please.", 0)


def test_a_prompt_of_another_head_is_searched(store):
    """A template that has a date in it renders otherwise today."""
    fill(store, [sample("high", 0, 0)], render=lambda system, doc: f"May 1 {rendered(system, doc)}")
    engine = Engine()
    score(store, Policies([NORMAL, HIGH], [LOW], [], "normal"), engine)
    assert engine.cases[0].prompt_texts["low"] == f"May 1 {rendered('Be calm, please.', 0)}"


def test_a_servers_messages_take_system_prompts_as_json_does(store):
    def messages(system, doc):
        start = [{"role": "system", "content": system}] if system else []
        return json.dumps([*start, {"role": "user", "content": f"{doc}?"}], ensure_ascii=False)

    wild, calm = 'Be "wild"\nand é.', 'Say "no".\n'
    modes, low = [NORMAL, Mode("high", wild, "high")], Mode("low", calm, "low")
    both = [sample(m.name, 0, 0, None, completion_tokens=2) for m in modes]
    fill(store, both, modes, messages, ids=False)
    policies = Policies(modes, [low], [], "normal")
    (work,) = lacking(store, policies, ["t"], Engine())
    (case,) = work.cases
    assert json.loads(case.prompt_texts["low"]) == [
        {"role": "system", "content": calm},
        {"role": "user", "content": "0?"},
    ]
    assert case.texts == ["said", "said"]
    assert case.responses == [(), ()]


def test_a_system_prompt_that_a_template_changed_is_an_error(store):
    fill(store, [sample("high", 0, 0)], render=lambda s, d: rendered((s or "").upper(), d))
    with pytest.raises(TemplateError, match=r"not in the stored prompt.*--placebos 0"):
        score(store)
    assert score(store, Policies([NORMAL, HIGH], [], [], "normal")) == 1


def test_modes_without_a_prompt_for_a_doc_are_left_out_of_it(store):
    """Doc 1 was asked in normal mode alone, and there is nothing to make another prompt of."""
    fill(store, [sample("normal", 0, 0), sample("high", 0, 0), sample("normal", 1, 0)])
    score(store)
    assert {key[3] for key in stored(store) if key[1] == 1} == {"normal"}
    assert {key[3] for key in stored(store) if key[1] == 0 and key[0] == "high"} == {
        "normal", "high", "low"
    }  # fmt: skip


def test_what_says_nothing_is_left_out(store):
    fill(
        store,
        [
            sample("high", 0, 0, text=None, error="gone"),
            sample("high", 0, 1, finish_reason="scored"),
            sample("high", 0, 2, None, text=""),
            sample("high", 0, 3, None, text="a server's"),
            sample("high", 0, 4, (), text=""),
            sample("high", 0, 5, (2,), text=""),
        ],
    )
    assert open_tokens(store, Policies([HIGH], [], [], "high"), ["t"]) == 3
    score(store, Policies([HIGH], [], [], "high"))
    assert {key[2] for key in stored(store)} == {3, 4, 5}
    empty = stored(store)["high", 0, 4, "high"]
    assert (empty.tokens, empty.entropy_sum_bits, empty.by_token) == (0, 0.0, b"")


def test_nothing_is_scored_twice(store):
    fill(store, grid())
    assert open_tokens(store, POLICIES, ["t"]) == 12 * 2 + 6 * 2
    score(store)
    assert open_tokens(store, POLICIES, ["t"]) == 0
    engine = Engine()
    assert score(store, engine=engine) == 0
    assert engine.cases == []


def test_new_samples_alone_are_scored(store):
    fill(store, grid(samples=2))
    score(store)
    before = stored(store)
    store.add_samples([sample("high", 1, 2)])
    engine = Engine()
    assert score(store, engine=engine) == 3
    (case,) = engine.cases
    assert len(case.responses) == 1
    after = stored(store)
    assert {key: after[key] for key in before} == before


def test_a_new_mode_is_scored_for_all_samples(store):
    fill(store, grid())
    score(store, Policies([NORMAL, HIGH], [], PLACEBOS, "normal"))
    engine = Engine()
    score(store, engine=engine)
    assert sum(len(case.responses) for case in engine.cases) == 12
    assert len(stored(store)) == 12 * 3 + 6 * 2


def test_what_was_done_before_an_error_is_kept(store, monkeypatch):
    fill(store, grid(docs=5))
    with pytest.raises(RuntimeError, match="gone"):
        score(store, engine=Engine(stop_after=2))
    kept = stored(store)
    assert len(kept) == 2 * 4 * 3
    engine = Engine()
    score(store, engine=engine)
    assert sum(len(case.responses) for case in engine.cases) == 5 * 4 - 2 * 4 + 5 * 2
    with Store(store.path.parent / "other.sqlite") as other:
        fill(other, grid(docs=5))
        score(other)
        assert stored(other) == stored(store)


def test_scores_are_committed_while_the_work_goes_on(store, monkeypatch):
    monkeypatch.setattr("psplit_eval.cross_scoring._SECONDS_TOGETHER", -1.0)
    fill(store, grid(docs=3))
    committed = []

    class Looking(Engine):
        def cross_score(self, cases, watch):
            for found in super().cross_score(cases, watch):
                with Store(store.path) as seen:
                    committed.append(len(list(seen.cross_scored("t", "normal"))))
                yield found

    score(store, engine=Looking())
    assert committed == sorted(committed)
    assert committed[0] == 0 < committed[1] < committed[-1]


def test_much_is_handed_over_in_parts_of_equal_policies(store, monkeypatch):
    monkeypatch.setattr("psplit_eval.cross_scoring._CALL_TOKENS", 10)
    fill(store, grid(docs=6))
    parts = list(lacking(store, POLICIES, ["t"], Engine()))
    assert sum(part.samples for part in parts) == 24 + 12
    assert sum(part.tokens for part in parts) == open_tokens(store, POLICIES, ["t"])
    assert max(part.tokens for part in parts) < 10 + 8
    for part in parts:
        assert len({(case.policies, tuple(case.pairs)) for case in part.cases}) == 1


def test_pairs_are_of_sampled_modes_and_all_else_each_once(store):
    fill(store, grid(docs=1, samples=1))
    engine = Engine()
    score(store, engine=engine)
    of_modes, of_placebos = engine.cases
    assert sorted(map(sorted, of_modes.pairs)) == [
        ["high", "low"],
        ["high", "normal"],
        ["low", "normal"],
    ]
    assert of_placebos.policies == ("normal", "placebo_1", "placebo_2")
    assert of_placebos.pairs == [("normal", "placebo_1"), ("normal", "placebo_2")]


def test_policies_are_named_in_manifests():
    assert PLACEBOS[0].to_dict() == {
        "name": "placebo_1", "system_prompt": "Sit.", "placebo": True, "role": "other"
    }  # fmt: skip
    assert [(p.name, p.role) for p in POLICIES.of_modes] == [
        ("normal", "normal"), ("high", "high"), ("low", "low")
    ]  # fmt: skip
