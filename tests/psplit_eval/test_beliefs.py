"""Which files among cards are cards, whose they are, and what they say."""

import json

import pytest

from psplit_eval.beliefs import beliefs, check_cards, fitting_cards, take_cards
from psplit_eval.cards import PURPOSES, Card, Ruling
from psplit_eval.errors import DataError
from psplit_eval.inquiry import asked_as
from psplit_eval.ledger import LEDGER, Ledger

JUDGE, SETTINGS = "openai:m@http://h/v1", {"identity": {"temperature": 0.0}}


def card(verdict="usable", **changed):
    known = {
        "judge": JUDGE,
        "judge_key": asked_as(JUDGE, SETTINGS),
        "settings": SETTINGS,
        "rubric": "story",
        "rubric_hash": "h",
        "version": "1",
        "created_at": "2025-01-01T00:00:00+00:00",
        "gold": {},
        "asked": {},
        "measures": (),
        "by_kind": [],
        "attacks": {},
        "purposes": {name: Ruling(verdict, "why") for name in PURPOSES},
        "bill": {},
    }
    return Card(**(known | changed))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "audits"
    made.mkdir()
    return made


@pytest.fixture
def ledger(tmp_path):
    """Of a run that JUDGE has judged."""
    with Ledger(tmp_path / LEDGER) as opened:
        opened.introduce(JUDGE, SETTINGS, "h", {"name": "story"})
        yield opened


def put(folder, name, content):
    content = content.to_dict() if isinstance(content, Card) else content
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_files_that_are_no_cards_are_skipped(folder, ledger, tmp_path):
    good = put(folder, "card.json", card())
    put(folder, "notes.json", {})
    put(folder, "list.json", ["format", "judge_key", "purposes"])
    put(folder, "panel-story.json", {"format": 1, "rubric": "story", "judges": []})
    put(folder, "config.json", {"format": 2, "names": []})
    put(folder, "words.json", "no JSON")
    put(folder, "all.json", {"cards": [card().to_dict()]})
    (folder / "folder.json").mkdir()
    assert list(fitting_cards(folder, ledger)) == [good]
    assert check_cards(folder) == 1
    run = tmp_path / "run"
    assert [one.judge for one in take_cards(folder, run, ledger)] == [JUDGE]
    assert [path.name for path in (run / "audits").iterdir()] == ["card.json"]


def test_a_folder_that_is_not_there_has_no_cards(tmp_path, ledger):
    assert check_cards(tmp_path / "none") == 0
    assert take_cards(tmp_path / "none", tmp_path / "run", ledger) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "no JSON"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "format 9, expected 1"),
        (lambda text: text.replace('"purposes"', '"purpose"'), "purposes is missing"),
        (lambda text: text.replace('"2025-01-01T00:00:00+00:00"', "null"), "created_at is null"),
        (lambda text: text.replace('"usable"', '"fine"'), "expected one of usable"),
    ],
)
def test_a_damaged_card_is_found_before_and_after(folder, ledger, tmp_path, damage, message):
    text = json.dumps(card().to_dict())
    assert damage(text) != text
    put(folder, "card.json", damage(text))
    for read in (
        lambda: check_cards(folder),
        lambda: fitting_cards(folder, ledger),
        lambda: take_cards(folder, tmp_path / "run", ledger),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read()
        assert "card.json" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_cards_of_others_do_not_fit(folder, ledger):
    other = {"identity": {"temperature": 1.0}}
    put(folder, "a.json", card(judge="openai:n@http://h/v1"))
    put(folder, "b.json", card(judge_key=asked_as(JUDGE, other), settings=other))
    put(folder, "c.json", card(rubric_hash="other words"))
    assert fitting_cards(folder, ledger) == {}
    assert check_cards(folder) == 3


def test_the_newest_card_counts_whatever_its_zone_and_name(folder, ledger):
    times = {
        "b.json": ("2025-01-01T23:30:00+00:00", "usable"),
        "a.json": ("2025-01-02T02:00:00+03:00", "not usable"),  # 23:00 of the day before in UTC
        "c.json": ("2025-01-01T12:00:00", "usable with care"),
    }
    for name, (created_at, verdict) in times.items():
        put(folder, name, card(verdict, created_at=created_at))
    cards = fitting_cards(folder, ledger)
    assert [path.name for path in cards] == ["b.json"]
    assert beliefs(cards.values())[JUDGE, "h"].of("scores") == "usable"
