"""Plan and fill: nothing paid for is lost, nothing there is changed."""

from dataclasses import replace

import pytest

from psplit_eval.catalog import Catalog
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.errors import RunMismatchError, TemplateError
from psplit_eval.harness import load_task
from psplit_eval.hf import HFBackend
from psplit_eval.modes import BUILTIN_MODES, Mode
from psplit_eval.requests import work_groups
from psplit_eval.sampling import fill, missing, plan
from psplit_eval.store import Store
from psplit_eval.suites import TaskSettings

MODES = [BUILTIN_MODES["normal"], BUILTIN_MODES["high"]]


@pytest.fixture(scope="module")
def backend(tiny):
    return HFBackend(resolve_checkpoint(str(tiny)), device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def sums():
    return load_task(Catalog().tasks["psplit_sums"])


def planned(backend, task, modes=MODES, seed=0, **settings):
    given = {"limit": 5, "samples": 3, "sampling": {"max_tokens": 12}} | settings
    return plan(backend, modes, [(task, TaskSettings(**given))], seed).requests


def filled(store, backend, requests, watch):
    return fill(store, backend, work_groups(requests, 1, 4), watch)


def quiet(tokens, samples):
    pass


def content(store):
    return {s.key: replace(s, seconds=0, created_at="") for s in store.samples()}


@pytest.mark.parametrize("steps", [1, 14, 40])
def test_an_interrupted_fill_goes_on_to_the_same_samples(backend, sums, tmp_path, steps):
    requests = planned(backend, sums)
    with Store(tmp_path / "whole.sqlite") as whole, Store(tmp_path / "cut.sqlite") as cut:
        filled(whole, backend, requests, quiet)
        left = steps

        def interrupt(tokens, samples):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            filled(cut, backend, requests, interrupt)
        kept = content(cut)
        assert len(kept) < len(requests)
        filled(cut, backend, requests, quiet)
        assert content(cut) == content(whole)
        assert {key: content(cut)[key] for key in kept} == kept


def test_a_bigger_plan_keeps_what_is_there(backend, sums, tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        filled(store, backend, planned(backend, sums), quiet)
        before = content(store)
        more = planned(backend, sums, [*MODES, BUILTIN_MODES["low"]], limit=7, samples=4)
        tally = filled(store, backend, more, quiet)
        after = content(store)
    assert {key: after[key] for key in before} == before
    assert tally.samples == len(after) - len(before) == 3 * 7 * 4 - 2 * 5 * 3


@pytest.mark.parametrize("change", [{"seed": 1}, {"sampling": {"max_tokens": 13}}])
def test_samples_of_other_settings_are_not_mixed_in(backend, sums, tmp_path, change):
    with Store(tmp_path / "s.sqlite") as store:
        filled(store, backend, planned(backend, sums), quiet)
        with pytest.raises(RunMismatchError, match="give another --out"):
            missing(store, planned(backend, sums, **change))


def test_a_failed_group_is_kept_with_its_error_and_tried_again(tiny, sums, tmp_path):
    class Flaky(HFBackend):
        broken = True

        def complete(self, requests, tick):
            if self.broken and requests[0].mode == "high":
                raise RuntimeError("the cable is out")
            return super().complete(requests, tick)

    backend = Flaky(resolve_checkpoint(str(tiny)), device="cpu")
    requests = planned(backend, sums)
    with Store(tmp_path / "s.sqlite") as store:
        tally = filled(store, backend, requests, quiet)
        assert tally.failed == 15
        failed = list(store.samples(mode="high"))
        assert {(s.error, s.attempt, s.text) for s in failed} == {
            ("RuntimeError: the cable is out", 1, None)
        }
        backend.broken = False
        assert filled(store, backend, requests, quiet).samples == 15
        assert {(s.error, s.attempt) for s in store.samples(mode="high")} == {(None, 2)}
        assert missing(store, requests) == {}


def test_one_prompt_under_two_labels_draws_apart(backend, sums):
    pair = [Mode("a", "Be brief."), Mode("b", "Be brief.")]
    requests = planned(backend, sums, pair)
    seeds = {r.key: r.seed for r in requests}
    assert len(set(seeds.values())) == len(requests)
    assert len({r.prompt_hash for r in requests}) == 5


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[-1]['content'] }}",
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}hello",
    ],
)
def test_a_template_that_loses_the_mode_stops_everything(tiny, sums, template):
    backend = HFBackend(resolve_checkpoint(str(tiny)), device="cpu", chat_template=template)
    with pytest.raises(TemplateError, match="--chat-template FILE"):
        planned(backend, sums)


def test_a_prompt_without_room_is_refused(backend, sums):
    long = Mode("long", "word " * 3000)
    with pytest.raises(TemplateError, match="the model's context"):
        planned(backend, sums, [long])
