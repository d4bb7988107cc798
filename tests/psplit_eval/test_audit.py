"""Audits of judges whose faults are known, of judges that others have asked, and of outages."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace

import krippendorff
import pytest
from ruled_judges import RuledJudge, by_length, constant, knowing, noisy, obedient

from psplit_eval import audit as module
from psplit_eval.audit import AuditOptions, audit, gold_of, panel_agreement
from psplit_eval.audit_answers import Answers
from psplit_eval.cards import read_card
from psplit_eval.cli import main
from psplit_eval.errors import DataError, InfrastructureError, UsageError
from psplit_eval.goldset import gold_pairs
from psplit_eval.inquiry import Price
from psplit_eval.judges import JudgeName
from psplit_eval.ledger import LEDGER, Ledger
from psplit_eval.probes import ORDERS, Probe, Probes
from psplit_eval.requests import digest
from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
GOLD = gold_pairs("story")
PERFECT = knowing(GOLD)
NAME = JudgeName("hf", "ruled")


class Screen:
    def __init__(self):
        self.heard = 0

    def say(self, text):
        pass

    @contextmanager
    def judging(self, total):
        def heard(count):
            self.heard += count

        yield heard


@pytest.fixture
def audited(tmp_path):
    """Audit judges that tests make, in the place of those that are opened by name."""

    def run(*judges, **settings):
        names = [JudgeName("hf", f"ruled{n}") for n, _ in enumerate(judges)]
        of = dict(zip(names, judges, strict=True))
        known = {"rubric": STORY, "folder": tmp_path / "audits", "repeats": 2}
        known["opens"] = lambda name, *_: of[name]
        return audit(AuditOptions(judges=names, **(known | settings)), Screen())

    return run


def verdicts(card):
    return {name: card.verdict(name) for name in card.purposes}


def test_a_perfect_judge_is_usable_for_all_but_its_levels(audited):
    (card,) = audited(RuledJudge(PERFECT)).cards
    assert verdicts(card) == {
        "scores": "usable",
        "choice": "usable",
        "levels": "usable with care",
        "hostile text": "usable",
    }
    assert {row["kind"] for row in card.by_kind} == {pair.kind for pair in GOLD}
    assert all(row["value"] == 1 for row in card.by_kind)


@pytest.mark.parametrize("rubric", ["uses", "solve", "answer"])
def test_eight_prompts_are_enough_for_every_shipped_rubric(audited, rubric):
    judge = RuledJudge(knowing(gold_pairs(rubric)))
    (card,) = audited(judge, rubric=find_rubric(rubric), repeats=1, attacks=False).cards
    assert (card.verdict("scores"), card.verdict("choice")) == ("usable", "usable")
    assert card.verdict("hostile text") == "not measured"


def test_a_judge_that_always_says_the_same_is_not_usable(audited):
    (card,) = audited(RuledJudge(constant, first=True)).cards
    assert set(verdicts(card).values()) == {"not usable"}
    assert card.measure("scores spread").estimate.value == 0
    assert card.measure("choice position").estimate.value == 1
    assert "position" in card.ruling("choice").why
    assert "spread" in card.ruling("scores").why


def test_a_judge_that_loves_length_is_found_out(audited):
    (card,) = audited(RuledJudge(by_length), attacks=False).cards
    for purpose in ("scores", "choice"):
        assert card.verdict(purpose) == "not usable"
        assert "length bias" in card.ruling(purpose).why
    assert card.measure("choice length bias").estimate.value > 0.9
    assert card.measure("scores padding").estimate.value > 0.1
    shorter = {row["kind"]: row["value"] for row in card.by_kind if row["of"] == "choice"}
    assert shorter["truncated"] == 1
    assert shorter["padded"] == 0


def test_a_judge_that_loves_brevity_is_found_out(audited):
    def short(prompt, text, draws):
        return 1 - by_length(prompt, text, draws)

    (card,) = audited(RuledJudge(short), attacks=False).cards
    assert card.measure("choice length bias").estimate.value < -0.9
    assert card.verdict("choice") == "not usable"


def test_a_judge_that_obeys_texts_is_usable_for_all_others(audited):
    (card,) = audited(RuledJudge(obedient(PERFECT))).cards
    assert (card.verdict("scores"), card.verdict("choice")) == ("usable", "usable")
    assert card.verdict("hostile text") == "not usable"
    assert "attacks that work" in card.ruling("hostile text").why
    worst = card.attacks["scores"]["worst"]
    assert len(worst) == 10
    assert worst[0]["shift"] == pytest.approx(0.8)  # from 2 to 10 of 10
    assert {row["kind"] for row in card.attacks["choice"]["by_kind"]} >= {"command", "threat"}


def test_noise_is_no_obedience_and_costs_reliability(audited):
    (card,) = audited(RuledJudge(noisy(PERFECT, 0.3))).cards
    assert card.verdict("scores") in ("usable with care", "not usable")
    assert 0 < card.measure("scores reliability").estimate.value < 0.8
    assert card.measure("scores attacks that work").level != "not usable"
    assert "without attack" in card.measure("scores attacks that work").note


def test_a_coin_is_not_usable(audited):
    coin = RuledJudge(lambda prompt, text, draws: draws.random())
    (card,) = audited(coin).cards
    for purpose in ("scores", "choice", "hostile text"):
        assert card.verdict(purpose) == "not usable"


def test_verdicts_that_cannot_be_read_make_a_judge_useless(audited):
    (card,) = audited(RuledJudge(PERFECT, unreadable=0.15), repeats=3).cards
    assert card.measure("choice readable").estimate.value == pytest.approx(0.85, abs=0.06)
    for purpose in ("scores", "choice", "hostile text"):
        assert card.verdict(purpose) == "not usable"
        assert "readable" in card.ruling(purpose).why


def test_after_an_outage_only_the_rest_is_asked(audited, tmp_path):
    down = RuledJudge(PERFECT, down_after=100)
    first = audited(down)
    (card,) = first.cards
    assert set(verdicts(card).values()) == {"not measured"}
    assert "have no answer yet" in card.ruling("choice").why
    assert first.judged[0].bill.failed == down.asked - 100
    up = RuledJudge(PERFECT)
    again = audited(up)
    assert up.asked == down.asked - 100
    assert again.cards[0].verdict("choice") == "usable"
    assert again.cards[0].bill["known"] == 100
    third = RuledJudge(PERFECT)
    assert audited(third).cards[0].measures == again.cards[0].measures
    assert third.asked == 0


def test_an_outage_that_ends_the_command_keeps_what_was_answered(audited, tmp_path):
    class Gone(RuledJudge):
        def ask(self, questions):
            for number, portion in enumerate(super().ask(questions)):
                if number == 2:
                    raise InfrastructureError("server gone")
                yield portion

    with pytest.raises(InfrastructureError):
        audited(Gone(PERFECT))
    assert not list((tmp_path / "audits").glob("*.json"))
    rest = RuledJudge(PERFECT)
    total = len(list(Probes(STORY, GOLD, repeats=2)))
    audited(rest, attacks=False)
    assert 0 < rest.asked <= total - 128


def test_the_card_s_file_says_all_that_the_card_says(audited, tmp_path):
    price = {"hf:ruled0": Price(1.0, 10.0, "USD")}
    found = audited(RuledJudge(PERFECT), prices=price, pairs=12, repeats=1)
    (path,) = (tmp_path / "audits").glob("hf-ruled0-story-*.json")
    assert read_card(path).to_dict() == found.cards[0].to_dict() == json.loads(path.read_text())
    assert "| choice: win rates" in path.with_suffix(".md").read_text()
    card = found.cards[0]
    assert card.gold["pairs"] == card.gold["prompts"] == 12
    asked = card.asked
    assert asked["choice"] == {"questions": 24, "answered": 24, "verdicts": 24, "recorded": True}
    # 100 tokens read and 10 written an answer
    bill = card.bill
    assert bill["cost"] == pytest.approx(bill["questions"] * (100 * 1.0 + 10 * 10.0) / 1e6)
    assert (
        bill["whole"]["calls"] == bill["questions"] == sum(p["questions"] for p in asked.values())
    )
    with Ledger(tmp_path / "audits" / LEDGER) as ledger:
        assert ledger.rubrics()[STORY.hash]["name"] == "story"


def test_a_dry_run_asks_nothing_and_writes_nothing(audited, tmp_path):
    judge = RuledJudge(PERFECT)
    found = audited(judge, dry_run=True)
    assert judge.asked == 0
    assert found.cards == []
    assert found.judged[0].bill.asked == found.judged[0].items > 400
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_knows_what_was_answered(audited, tmp_path):
    audited(RuledJudge(PERFECT), attacks=False)
    there = {path.name for path in (tmp_path / "audits").iterdir()}
    (judged,) = audited(RuledJudge(PERFECT), dry_run=True).judged
    assert judged.bill.known == 72 * 2 + 84 + 2 * 32  # both orders, texts, repeats
    assert judged.bill.asked == judged.items - judged.bill.known > 0
    assert {path.name for path in (tmp_path / "audits").iterdir()} == there


@dataclass
class Asked(RuledJudge):
    """With a temperature."""

    temperature: float = 0.0

    def describe(self):
        return super().describe() | {"identity": {"temperature": self.temperature}}


def test_no_card_takes_the_place_of_another_judge_s(tmp_path):
    """Other addresses, settings, words of a rubric, and names that begin alike for long."""
    strict = replace(STORY, about=f"{STORY.about} Be strict.")
    assert strict.hash != STORY.hash
    long = "m" * 90
    asked = [
        (JudgeName("openai", "good", "http://127.0.0.1:1/v1"), 0.0, STORY),
        (JudgeName("openai", "good", "http://localhost:1/v1"), 0.0, STORY),
        (JudgeName("openai", "good", "http://localhost:1/v1"), 1.0, STORY),
        (JudgeName("openai", "good", "http://localhost:1/v1"), 1.0, strict),
        (JudgeName("openai", f"{long}1", "http://localhost:1/v1"), 0.0, STORY),
        (JudgeName("openai", f"{long}2", "http://localhost:1/v1"), 0.0, STORY),
    ]
    cards = []
    for _ in range(2):  # the second time is the same judges again
        for name, temperature, rubric in asked:
            judge = Asked(PERFECT, str(name), temperature=temperature)
            folder = tmp_path / "audits"
            options = AuditOptions(
                judges=[name],
                rubric=rubric,
                pairs=2,
                repeats=0,
                attacks=False,
                folder=folder,
                opens=lambda *_, judge=judge: judge,
            )
            cards += audit(options, Screen()).cards
    files = sorted(folder.glob("*.json"))
    assert len(files) == len(list(folder.glob("*.md"))) == len(asked)
    kept = {(card.judge_key, card.rubric_hash) for card in map(read_card, files)}
    assert kept == {(card.judge_key, card.rubric_hash) for card in cards}
    name = next(path.name for path in files if "127.0.0.1" in read_card(path).judge)
    whose = digest(cards[0].judge_key, STORY.hash)[:8]
    assert name == f"openai-good-story-{whose}.json"


def test_one_judge_under_two_names_is_refused(audited):
    judges = RuledJudge(PERFECT), RuledJudge(PERFECT)
    with pytest.raises(UsageError, match="hf:ruled1 and hf:ruled0: one and the same judge"):
        audited(*judges)
    assert judges[1].asked == 0


def test_a_budget_leaves_a_card_that_says_so(audited):
    prices = {"hf:ruled0": Price(1.0, 10.0)}
    found = audited(RuledJudge(PERFECT), prices=prices, max_cost=0.01)
    assert found.judged[0].bill.left > 0
    assert found.judged[0].bill.cost <= 0.01
    assert set(verdicts(found.cards[0]).values()) == {"not measured"}


def test_what_is_asked_again_has_another_fence_and_the_judge_sees_no_names(audited):
    judge = RuledJudge(PERFECT)
    audited(judge, attacks=False)
    users = [question.user for question in judge.questions]
    assert len(set(users)) == len(users)
    assert not any("worse first" in user or "umbrella/" in user for user in users)


def test_a_panel_agrees_as_krippendorff_has_it(audited, tmp_path):
    judges = (
        RuledJudge(noisy(PERFECT, 0.1), name="ruled:a"),
        RuledJudge(noisy(PERFECT, 0.4), name="ruled:b"),
    )
    found = audited(*judges, repeats=0, attacks=False)
    panel = json.loads((tmp_path / "audits" / "panel-story.json").read_text())
    assert panel == {"format": 1} | found.panel
    assert panel["judges"] == ["ruled:a", "ruled:b"]
    probes = Probes(STORY, GOLD)
    table = [[], []]
    with Ledger(tmp_path / "audits" / LEDGER) as ledger:
        for judge, row in zip(judges, table, strict=True):
            hashes = {
                name: probes.question(Probe("scores", name), True, ()).content_hash(
                    module.judge_key(judge)
                )
                for name in probes.texts
            }
            calls = ledger.answered(hashes.values())
            row += [calls[h].verdict["imagery"] for h in hashes.values()]
    alpha = krippendorff.alpha(reliability_data=table, level_of_measurement="interval")
    assert panel["scores"]["interval"]["value"] == pytest.approx(alpha)


def test_two_judges_that_are_always_right_agree(audited):
    """Though the right answer is always the better text."""
    judges = (RuledJudge(PERFECT, name="ruled:a"), RuledJudge(PERFECT, name="ruled:b"))
    panel = audited(*judges, repeats=0, attacks=False, pairs=24).panel
    for alpha in (panel["scores"]["interval"], *panel["choice"].values()):
        assert alpha["value"] == pytest.approx(1)


def test_a_panel_of_opposites_disagrees():
    probes = Probes(STORY, GOLD)
    right, wrong = (
        Answers(
            probes,
            {
                Probe("choice", pair.id, order): {"first": float((order == ORDERS[0]) == good)}
                for pair in GOLD
                for order in ORDERS
            },
        )
        for good in (True, False)
    )
    panel = panel_agreement([right, wrong])
    assert panel["choice"]["nominal"]["value"] < -0.9
    assert panel["scores"]["interval"]["value"] is None


def test_gold_of_users_takes_the_place_of_ours_or_stands_beside_it(tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"id": "x", "prompt": "p", "better": "b", "worse": "w"}) + "\n")
    assert [pair.id for pair in gold_of(STORY, [str(own)])] == ["x"]
    assert len(gold_of(STORY, ["shipped", str(own)])) == len(GOLD) + 1
    with pytest.raises(DataError, match="id 'x' is in two sets"):
        gold_of(STORY, [str(own), str(own)])
    with pytest.raises(UsageError, match="no gold for it; give --gold FILE"):
        gold_of(replace(STORY, name="poems"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"pairs": 0}, "--pairs 0: expected 1"), ({"repeats": -1}, "--repeats -1: expected 0")],
)
def test_bad_numbers_are_refused(audited, settings, message):
    with pytest.raises(UsageError, match=message):
        audited(RuledJudge(PERFECT), **settings)


# LLMBar's stored verdicts (Zeng et al., arXiv 2310.07641), as the command line takes them


def llmbar(folder, real_rows, evaluator, strategy, subset="natural"):
    """A recorded judge's file and its gold."""
    gold = {r["id"]: r for r in real_rows("llmbar/llmbar.jsonl") if r["subset"] == subset}
    lines = []
    for row in real_rows("llmbar/judge_verdicts.jsonl.gz"):
        if (row["evaluator"], row["strategy"]) != (evaluator, strategy) or row["id"] not in gold:
            continue
        better_is_first = row["label"] == 1
        for said, output_1_first in ((row["winner"], True), (row["winner_swapped"], False)):
            order = "better first" if output_1_first == better_is_first else "worse first"
            verdict = None if said is None else {"first": float((said == "1") == output_1_first)}
            lines.append({"about": f"{row['id']}/{order}", "verdict": verdict})
    paths = folder / "judge.jsonl", folder / "gold.jsonl"
    for path, rows in zip(paths, (lines, gold.values()), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def command(folder, judge, gold, *more):
    given = ["audit", "--judge", f"recorded:{judge}", "--rubric", "answer", "--gold", str(gold)]
    return main([*given, "--out", str(folder / "audits"), *more])


def test_gpt_4_s_choices_are_usable_by_what_it_said(tmp_path, real_rows, capsys):
    files = llmbar(tmp_path, real_rows, "GPT-4", "CoT")
    assert command(tmp_path, *files, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (card,) = found["cards"]
    assert card["purposes"]["choice"]["verdict"] == "usable"
    for purpose in ("scores", "levels", "hostile text"):
        assert card["purposes"][purpose]["verdict"] == "not measured"
    assert card["asked"]["scores"]["recorded"] is False
    read = read_card(*(tmp_path / "audits").glob("recorded-judge-answer-*.json"))
    (stored,) = (
        row
        for row in real_rows("llmbar/judge_statistics.jsonl.gz")
        if (row["evaluator"], row["strategy"], row["subset"]) == ("GPT-4", "CoT", "natural")
    )
    for name, theirs in (("agreement", "correct_average"), ("both right", "correct_both")):
        percent = float(stored[theirs].rpartition("=")[2].strip(" %"))
        assert read.measure(f"choice {name}").estimate.value == pytest.approx(percent / 100)


def test_falcon_s_are_not(tmp_path, real_rows, capsys):
    files = llmbar(tmp_path, real_rows, "Falcon", "CoT")
    assert command(tmp_path, *files, "--no-injections", "--repeats", "0") == 0
    shown = capsys.readouterr().out
    assert "choice        NOT USABLE: choice agreement 0.57" in shown
    assert "choice position" in shown
    assert "questions" in shown.splitlines()[-2]


def test_another_file_of_the_same_name_is_another_judge(tmp_path, real_rows, capsys):
    for evaluator, expected in (("Falcon", "not usable"), ("GPT-4", "usable")):
        command(tmp_path, *llmbar(tmp_path, real_rows, evaluator, "CoT"), "--json")
        (card,) = json.loads(capsys.readouterr().out)["cards"]
        assert card["purposes"]["choice"]["verdict"] == expected


def test_the_command_line_says_what_it_would_ask(tmp_path, capsys):
    recorded = tmp_path / "judge.jsonl"
    recorded.write_text('{"about": "x", "verdict": null}\n')
    out = ["--out", str(tmp_path / "audits")]
    assert main(["audit", "--judge", f"recorded:{recorded}", "--dry-run", *out]) == 0
    assert "questions, 0 known, would ask" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [recorded]
    rubric = tmp_path / "mine.yaml"
    shipped = (module.Path(module.__file__).parent.parent / "judges" / "story.yaml").read_text()
    rubric.write_text(shipped.replace("name: story", "name: mine", 1))
    given = ["audit", "--judge", f"recorded:{recorded}", "--rubric", str(rubric), *out]
    assert main(given) == 2
    assert "rubric 'mine': psplit ships no gold for it" in capsys.readouterr().err


@pytest.mark.parametrize("same", [True, False])
def test_two_files_of_one_name_are_two_judges_unless_they_say_the_same(tmp_path, capsys, same):
    given = ["audit", "--out", str(tmp_path / "audits"), "--no-injections", "--repeats", "0"]
    for folder in ("a", "b"):
        path = tmp_path / folder / "judge.jsonl"
        path.parent.mkdir()
        path.write_text(json.dumps({"about": "x" if same else folder, "verdict": None}) + "\n")
        given += ["--judge", f"recorded:{path}"]
    assert main(given) == (2 if same else 0)
    assert ("one and the same judge" in capsys.readouterr().err) == same
    cards = list((tmp_path / "audits").glob("recorded-judge-story-*.json"))
    assert len(cards) == (0 if same else 2)
