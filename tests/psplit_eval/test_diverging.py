"""Runs scored under all modes and placebos: real ones, killed ones, extended ones, refused ones."""

import json
import shutil

import pytest
from diverged import (
    PLAIN,
    answers,
    assert_same,
    check_entropies,
    cross_scores,
    diverge,
    psplit,
    read,
    sampled,
)

from psplit_eval.hf import HFBackend
from psplit_eval.placebos import MOST_PLACEBOS
from psplit_eval.store import Store

# What can be asked of a run


@pytest.fixture(scope="module")
def unscored(tiny, tmp_path_factory):
    """Two modes of a random model that nothing is scored of yet."""
    out = tmp_path_factory.mktemp("runs") / "unscored"
    return sampled(tiny, out, "--modes", "normal,high", "--no-divergence")


@pytest.fixture
def run(unscored, tmp_path):
    return shutil.copytree(unscored, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(unscored, tmp_path_factory):
    """The same, scored without a break."""
    run = shutil.copytree(unscored, tmp_path_factory.mktemp("runs") / "whole")
    assert diverge(run) == 0
    return run


@pytest.fixture
def calls(monkeypatch):
    """(sample's response, policies) of everything that the engine is asked to score."""
    heard = []
    score = HFBackend.cross_score

    def listening(self, cases, watch):
        for case in cases:
            heard.extend((response, tuple(case.prompts)) for response in case.responses)
        yield from score(self, cases, watch)

    monkeypatch.setattr(HFBackend, "cross_score", listening)
    return heard


def test_a_run_that_was_not_scored_is_reported_without(unscored):
    assert answers(unscored)["split", "high"]["verdict"] == "inconclusive"
    assert "psplit-eval diverge" in answers(unscored)["split", "high"]["evidence"]
    content = read(unscored)
    assert content["splits"][0]["kl_bits"] == dict.fromkeys(("value", "ci_low", "ci_high")) | {
        "n_docs": 0
    }
    assert content["matrix"] == content["by_position"] == content["tokens"] == []
    assert "divergence" not in read(unscored, "manifest.json")
    assert cross_scores(unscored) == {}


def test_diverge_scores_each_sample_once_and_no_more_the_next_time(run, calls, capsys):
    assert diverge(run, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    # 24 samples under 2 modes, and 12 of normal under itself again and 3 placebos
    assert said["scored"] == 24 * 2 + 12 * 3
    assert len(calls) == 24 + 12
    assert len(cross_scores(run)) == 24 * 2 + 12 * 3
    assert {a["question"] for a in said["answers"]} == {"split", "accuracy kept"}
    check_entropies(run)
    calls.clear()
    assert diverge(run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["scored"] == 0
    assert calls == []


def test_a_run_scores_unasked_what_diverge_scores(tiny, whole, tmp_path):
    run = sampled(tiny, tmp_path / "run", "--modes", "normal,high")
    assert_same(run, whole)
    assert read(run)["findings"] == read(whole)["findings"]


def test_contexts_of_another_temperature_are_labelled(whole):
    found = [f for f in read(whole)["findings"] if f["unit"] == "bits a token"]
    assert {f["measure"] for f in found} == {
        "kl_bits", "js_bits", "entropy_gap_bits", "surprisal_gap_bits"
    }  # fmt: skip
    note = "contexts drawn at temperature 0.6, top-k 20, top-p 0.95"
    assert {f["note"] for f in found} == {note}
    assert note in (whole / "report.md").read_text()


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (MemoryError, None)])
def test_what_was_scored_before_an_end_is_kept(run, whole, monkeypatch, stop, code, calls):
    score = HFBackend.cross_score

    def failing(self, cases, watch):
        for number, found in enumerate(score(self, cases, watch)):
            if number == 4:
                raise stop
            yield found

    with monkeypatch.context() as patched:
        patched.setattr(HFBackend, "cross_score", failing)
        if code is None:
            with pytest.raises(stop):
                diverge(run)
        else:
            assert diverge(run) == code
    kept = cross_scores(run)
    assert len(kept) == 4 * 4 * 2  # four docs of four samples under two modes
    calls.clear()
    assert diverge(run) == 0
    assert len(calls) == 24 + 12 - 4 * 4
    assert_same(run, whole)
    again = cross_scores(run)
    assert all(again[key] == kept[key] for key in kept if key[0] == "high")
    assert read(run)["answers"] == read(whole)["answers"]


def test_new_samples_alone_are_scored(tiny, run, calls):
    assert diverge(run) == 0
    before = cross_scores(run)
    calls.clear()
    sampled(tiny, run, "--modes", "normal,high", docs=7, samples=3)
    new = 2 * (7 * 3 - 6 * 2)
    assert len(calls) == new + new // 2
    after = cross_scores(run)
    assert {key: after[key] for key in before} == before
    assert len(after) == 42 * 2 + 21 * 3


def test_one_more_mode_than_the_command_names_is_scored(tiny, tmp_path, calls):
    """Two commands of one mode each make a run of two."""
    run = tmp_path / "run"
    sampled(tiny, run, "--modes", "normal")
    assert cross_scores(run) == {}
    sampled(tiny, run, "--modes", "high")
    assert {key[3] for key in cross_scores(run)} >= {"normal", "high"}
    assert answers(run)["split", "high"]["evidence"].startswith("KL")


@pytest.mark.slow
def test_a_mode_can_be_tried_without_samples_and_stays(tiny, run):
    assert diverge(run, "--modes", "low", "--mode", "mine=Be bold.") == 0
    found = {each["mode"]: each for each in read(run)["splits"]}
    assert set(found) == {"high", "low", "mine"}
    assert {e["margin"] for e in found["low"]["beyond_placebos"]} == {0.1, 0.05}
    assert ("normal", "mine") in {(m["mode"], m["policy"]) for m in read(run)["matrix"]}
    assert "mine" not in {m["mode"] for m in read(run)["matrix"]}
    assert diverge(run) == 0
    assert {each["mode"] for each in read(run)["splits"]} == set(found)
    before = cross_scores(run)["normal", 0, 0, "low"]
    sampled(tiny, run, "--modes", "normal,high,low")
    after = cross_scores(run)
    assert after["normal", 0, 0, "low"].kl_sum_bits == pytest.approx(before.kl_sum_bits, rel=1e-5)
    assert after["low", 0, 0, "low"].kl_sum_bits == 0
    assert {each["mode"] for each in read(run)["splits"]} == set(found)
    check_entropies(run)


def test_a_changed_placebo_is_scored_again(run, calls):
    assert diverge(run, "--placebo", "You answer in a hall.", "--placebos", "1") == 0
    first = cross_scores(run)
    calls.clear()
    assert diverge(run, "--placebo", "You sit at a desk.", "--placebos", "1") == 0
    assert len(calls) == 12
    second = cross_scores(run)
    assert first.keys() == second.keys()
    key = ("normal", 0, 0, "placebo_1")
    assert first[key].kl_sum_bits != pytest.approx(second[key].kl_sum_bits, rel=1e-3)
    same = ("normal", 0, 0, "placebo_2")
    assert first[same].kl_sum_bits == pytest.approx(second[same].kl_sum_bits, rel=1e-6)


def test_a_mode_that_is_tried_with_another_prompt_is_another_mode(run):
    found = []
    for prompt in ("Be bold.", "Be very bold and quick.", "Be bold."):
        assert diverge(run, "--mode", f"mine={prompt}", "--placebos", "0") == 0
        found.append(cross_scores(run)["normal", 0, 0, "mine"].kl_sum_bits)
    assert found[0] != pytest.approx(found[1], rel=1e-3)
    assert found[0] == pytest.approx(found[2], rel=1e-6)


@pytest.mark.slow
def test_scores_of_a_placebo_that_was_left_out_are_not_taken_for_anothers(run):
    """Fewer placebos, with other texts under the names that are left, and then as many again."""
    for placebos in (
        ("--placebo", "Sit.", "--placebos", "2"),
        ("--placebos", "2"),
        ("--placebos", "3"),
    ):
        assert diverge(run, *placebos) == 0
    fresh = shutil.copytree(run, run.parent / "fresh")
    with Store(fresh / "samples.sqlite") as store:
        for policy in ("placebo_1", "placebo_2", "placebo_3", "normal", "high"):
            store.forget_policy(policy)
    assert diverge(fresh, "--placebos", "3") == 0
    assert_same(run, fresh)


def test_a_kill_before_the_manifest_leaves_no_scores_of_unknown_prompts(run, monkeypatch):
    """The manifest says what scores are of before the first of them is there."""
    seen = []

    def looking(self, cases, watch):
        seen.append(read(run, "manifest.json")["divergence"]["policies"])
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(HFBackend, "cross_score", looking)
    assert diverge(run, "--placebo", "You sit at a desk.", "--placebos", "0") == 130
    assert seen[0][-1]["system_prompt"] == "You sit at a desk."


def test_no_placebos_no_verdict(run):
    assert diverge(run, "--placebos", "0") == 0
    assert answers(run)["split", "high"]["verdict"] == "inconclusive"
    assert "no placebo" in answers(run)["split", "high"]["evidence"]


def test_a_baseline_is_what_accuracy_is_held_against(run, unscored, capsys):
    before = shutil.copytree(unscored, run.parent / "before")
    assert psplit("report", run, "--baseline", before, "--json") == 0
    said = json.loads(capsys.readouterr().out)["answers"]
    kept = [(a["mode_a"], a["mode_b"]) for a in said if a["question"] == "accuracy kept"]
    assert ("normal", "high") in kept
    assert [a.rpartition("/")[2] for a in kept[0]] == ["normal", "normal"]
    assert kept[0][0] != kept[0][1]


# Little to go by


def test_one_prompt_under_two_names_is_one_policy(tiny, tmp_path):
    modes = ["--mode", "a=Be brief.", "--mode", "b=Be brief."]
    run = sampled(tiny, tmp_path / "run", *modes, *PLAIN)
    found = answers(run)["split", "b"]
    assert (found["verdict"], found["evidence"]) == ("no", "both modes have the same system prompt")
    for (mode, _, _, policy), score in cross_scores(run).items():
        if not policy.startswith("placebo"):
            assert score.kl_sum_bits == 0, (mode, policy)
            assert score.js_sum_bits < 1e-5  # of single precision
    assert {entry["share"] for entry in read(run)["tokens"]} == {None}
    assert psplit("export", run, "--out", tmp_path / "samples.jsonl") == 0


def test_one_mode_and_one_doc_and_one_token(tiny, tmp_path):
    one = sampled(tiny, tmp_path / "one", "--modes", "high", docs=1, samples=1, tokens=1)
    assert cross_scores(one) == {}
    assert read(one)["answers"] == []
    assert diverge(one) == 0
    assert {key[3] for key in cross_scores(one)} == {"high"}  # no other mode, nothing to exceed
    assert read(one)["answers"] == []
    assert diverge(one, "--modes", "low") == 0
    assert answers(one)["split", "low"]["verdict"] == "inconclusive"
    (stretch,) = read(one)["by_position"]
    assert stretch["kl_bits"]["ci_low"] is None
    assert stretch["kl_bits"]["value"] > 0
    two = sampled(tiny, tmp_path / "two", "--modes", "normal,high", docs=1, samples=1, tokens=1)
    assert answers(two)["split", "high"]["verdict"] == "inconclusive"
    assert all(f["p"] is None for f in read(two)["findings"] if f["unit"] == "bits a token")


@pytest.fixture
def silent(tiny, tmp_path):
    """A model that ends at once."""
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(tiny, tmp_path / "silent")
    model = AutoModelForCausalLM.from_pretrained(folder)
    size = model.lm_head.weight.shape
    for name, weights in model.named_parameters():
        if "norm" not in name:
            weights.data.zero_()
    model.model.embed_tokens.weight.data.fill_(1.0)
    model.lm_head.weight.data[2] = 5.0
    assert size[0] > 2
    model.save_pretrained(folder)
    return folder


def test_empty_texts_have_numbers_of_the_end_token_alone(silent, tmp_path):
    run = sampled(silent, tmp_path / "run", "--modes", "normal,high")
    with Store(run / "samples.sqlite") as store:
        assert {(s.text, s.completion_ids) for s in store.samples()} == {("", (2,))}
    found = cross_scores(run)
    assert {score.tokens for score in found.values()} == {1}
    assert {score.kl_sum_bits for score in found.values()} == {0.0}
    check = read(run)["by_position"]
    assert {(entry["first"], entry["last"]) for entry in check} == {(0, 0)}
    assert answers(run)["split", "high"]["verdict"] != "yes"


# What is refused


def unchanged(run):
    return (run / "manifest.json").read_bytes(), cross_scores(run)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--modes", "hihg"], "did you mean 'high'?"),
        (["--mode", "bare="], "mode 'bare': has no system prompt and no samples"),
        (["--mode", "high=Another."], "have another system prompt under that name"),
        (["--mode", "placebo_1=Another."], "rename the mode"),
        (["--placebos", "99"], f"--placebos 99: expected 0 to {MOST_PLACEBOS}"),
        (["--placebos", "-1"], "--placebos -1: expected 0 to"),
        (["--placebo", ""], "expected a text, got an empty one"),
        (["--placebo", "@/no/such/file"], "/no/such/file"),
        (["--dtype", "bfloat16"], "made with precision float32, this command has bfloat16"),
        (["--model", "OTHER"], "made with checkpoint of fingerprint"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--split-kl", "0"], "--split-kl 0: expected more than 0"),
        (["--split-kl", "nan"], "--split-kl nan"),
        (["--split-entropy", "-1"], "--split-entropy -1"),
        (["--keep-accuracy", "1"], "--keep-accuracy 1: expected more than 0 and less than 1"),
        (["--keep-quality", "2"], "--keep-quality 2"),
        (["--backend", "nothing"], "unknown backend 'nothing'"),
        (["--baseline", "/no/run"], "'/no/run': no run"),
        (["--baseline", "ALIEN"], "ALIEN"),
        (["--encoder", "no-such-encoder"], "no-such-encoder"),
        (["--frobnicate"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(run, tiny, tmp_path, more, words, capsys):
    other = shutil.copytree(tiny, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"note": 1}))
    alien = shutil.copytree(run, tmp_path / "ALIEN")
    manifest = read(alien, "manifest.json")
    manifest["tasks"]["another"] = manifest["tasks"].pop("psplit_sums")
    (alien / "manifest.json").write_text(json.dumps(manifest))
    before = unchanged(run)
    places = {"OTHER": str(other), "ALIEN": str(alien)}
    assert diverge(run, *(places.get(each, each) for each in more)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    assert unchanged(run) == before


@pytest.mark.parametrize("what", ["--split-kl=0", "--split-entropy=nan", "--keep-accuracy=-1"])
def test_report_refuses_margins_that_leave_no_room(run, what, capsys):
    assert psplit("report", run, what) == 2
    assert what.partition("=")[0] in capsys.readouterr().err


def test_report_refuses_a_baseline_that_is_no_run(run, tmp_path, capsys):
    assert psplit("report", run, "--baseline", tmp_path / "nothing") == 2
    assert "no run" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert diverge(tmp_path) == 2
    assert "no run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_imported_run_is_refused(run, capsys):
    manifest = read(run, "manifest.json")
    manifest["model"]["backend"] = "lm-eval"
    (run / "manifest.json").write_text(json.dumps(manifest))
    before = unchanged(run)
    assert diverge(run) == 2
    assert "imported, its token ids are not known" in capsys.readouterr().err
    assert unchanged(run) == before


def test_without_a_system_prompt_no_other_can_be_put_in_its_place(tiny, tmp_path, capsys):
    run = sampled(tiny, tmp_path / "run", "--modes", "normal", docs=2)
    before = unchanged(run)
    for more in ([], ["--modes", "low"], ["--placebos", "0", "--placebo", "You sit at a desk."]):
        assert diverge(run, *more) == 2
        assert "no mode with a system prompt" in capsys.readouterr().err
    assert unchanged(run) == before
    assert diverge(run, "--placebos", "0") == 0
    check_entropies(run)


def test_a_checkpoint_that_is_gone_is_named_or_found_elsewhere(tiny, tmp_path, capsys):
    model = shutil.copytree(tiny, tmp_path / "model")
    run = sampled(model, tmp_path / "run", "--modes", "normal,high", "--no-divergence", docs=2)
    moved = shutil.move(model, tmp_path / "moved")
    assert diverge(run) == 2
    assert str(model) in capsys.readouterr().err
    assert diverge(run, "--model", moved) == 0
    check_entropies(run)


def test_the_adapter_of_the_run_is_its_own_by_default(tiny, adapter, tmp_path):
    run = tmp_path / "run"
    sampled(tiny, run, "--adapter", adapter, "--modes", "normal,bold", "--no-divergence", docs=2)
    assert diverge(run) == 0
    check_entropies(run)


def test_a_model_that_cannot_be_cross_scored_is_run_all_the_same(other_models, tmp_path, capsys):
    model = other_models["encoder-decoder"]
    run = sampled(model, tmp_path / "run", "--modes", "normal,high", docs=5)
    assert answers(run)["split", "high"]["verdict"] == "inconclusive"
    before = unchanged(run)
    capsys.readouterr()
    assert diverge(run) == 2
    assert "encoder-decoder" in capsys.readouterr().err.strip().splitlines()[-1]
    assert unchanged(run) == before


def test_an_engine_that_cannot_is_refused_before_anything_is_written(run, monkeypatch, capsys):
    monkeypatch.delattr(HFBackend, "cross_score")
    before = unchanged(run)
    assert diverge(run) == 2
    assert "cannot score given responses under other prompts" in capsys.readouterr().err
    assert unchanged(run) == before
