"""Each question is asked and paid for once, nothing that came back is lost, the budget holds."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretending import PretendJudge, sevens

from psplit_eval.errors import DataError, InfrastructureError, UnknownNameError, UsageError
from psplit_eval.inquiry import Inquiry, Price, judge_key, price_of, read_prices
from psplit_eval.judges import JudgeName, Reply
from psplit_eval.ledger import Ledger
from psplit_eval.rubrics import find_rubric

STORY = find_rubric("story")
PRICE = Price(1e4, 1e5, "EUR")  # 1 a question of 100 tokens read, 1 of 10 written


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "judgements.sqlite") as opened:
        yield opened


def items(texts):
    """Key → question; equal texts are equal questions."""
    return [(i, STORY.score_question("p", text)) for i, text in enumerate(texts)]


def settled(inquiry, questions, heard=lambda _: None):
    found = []
    for some in inquiry.settle(questions, heard):
        found += some
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("places", [1, 3, 50])
def test_equal_questions_are_asked_once_even_at_the_same_time(places, ledger):
    judge, heard = PretendJudge(places=places), []
    inquiry = Inquiry(judge, ledger, STORY)
    found = settled(inquiry, items("abcabcaaaz"), heard.append)
    assert found.keys() == set(range(10))
    assert len(judge.asked) == len(set(judge.asked)) == 4
    assert found[0] == found[3] == found[6]
    assert sum(heard) == 10
    assert judge.busiest == min(places, 4)
    assert (inquiry.bill.asked, ledger.spent(judge.name).calls) == (4, 4)


def test_what_was_answered_is_not_asked_again(ledger):
    settled(Inquiry(PretendJudge(), ledger, STORY), items("abc"))
    judge = PretendJudge()
    inquiry = Inquiry(judge, ledger, STORY)
    found = settled(inquiry, items("abcd"))
    assert len(judge.asked) == 1
    assert (inquiry.bill.known, inquiry.bill.asked) == (3, 1)
    assert len(found) == 4


def test_many_questions_that_are_known_come_back(ledger):
    texts = list(map(str, range(300)))
    settled(Inquiry(PretendJudge(places=9), ledger, STORY), items(texts))
    judge = PretendJudge()
    assert len(settled(Inquiry(judge, ledger, STORY), items(texts))) == 300
    assert judge.asked == []


def test_another_judge_or_identity_is_asked_anew(ledger):
    settled(Inquiry(PretendJudge(), ledger, STORY), items("ab"))
    for changes in ({"name": "openai:other"}, {"identity": "2"}):
        judge = PretendJudge(**changes)
        settled(Inquiry(judge, ledger, STORY), items("ab"))
        assert len(judge.asked) == 2
        assert judge_key(judge) != judge_key(PretendJudge())


def test_an_unreadable_answer_is_final_and_costs(ledger):
    def unreadable(question):
        return Reply(None, "no score", None, "eh", None, 2, 200, 20)

    for asked in (3, 0):
        judge = PretendJudge(unreadable)
        inquiry = Inquiry(judge, ledger, STORY, PRICE)
        found = settled(inquiry, items("abc"))
        assert {call.unreadable for call in found.values()} == {"no score"}
        assert {call.verdict for call in found.values()} == {None}
        assert len(judge.asked) == inquiry.bill.unreadable == asked
        assert inquiry.bill.cost == pytest.approx(4.0 * asked)
        assert inquiry.bill.earlier == pytest.approx(12.0 - 4.0 * asked)


def test_a_failure_is_tried_again_and_costs_nothing_that_was_not_told(ledger):
    judge = PretendJudge(lambda question: Reply(None, error="cut"))
    inquiry = Inquiry(judge, ledger, STORY, PRICE, 1000.0)
    found = settled(inquiry, items("aab"))
    assert {call.error for call in found.values()} == {"cut"}
    assert (inquiry.bill.failed, inquiry.bill.cost, len(judge.asked)) == (2, 0.0, 2)
    judge = PretendJudge()
    assert all(
        call.verdict for call in settled(Inquiry(judge, ledger, STORY), items("aab")).values()
    )
    assert len(judge.asked) == 2


def test_tokens_that_a_server_does_not_tell_are_estimated(ledger):
    judge = PretendJudge(lambda q: Reply(sevens(q).verdict), likely=(50.0, 5.0))
    inquiry = Inquiry(judge, ledger, STORY, PRICE)
    settled(inquiry, items("ab"))
    assert inquiry.bill.estimated
    assert inquiry.bill.cost == pytest.approx(2.0)
    assert inquiry.bill.prompt_tokens == 100
    assert ledger.spent(judge.name)[4:] == (0, 0, 0, 100, 10)
    again = Inquiry(PretendJudge(), ledger, STORY, PRICE, 2.5)  # the budget is used up
    assert again.bill.earlier == pytest.approx(2.0)
    assert len(settled(again, items("abc"))) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InfrastructureError("gone")])
def test_what_was_done_is_kept_when_the_judge_goes(error, ledger):
    judge = PretendJudge(places=4, fails_after=5, error=error)
    with pytest.raises(type(error)):
        settled(Inquiry(judge, ledger, STORY), items("abcdefghij"))
    assert ledger.spent(judge.name).calls == 5
    again = PretendJudge()
    assert len(settled(Inquiry(again, ledger, STORY), items("abcdefghij"))) == 10
    assert len(again.asked) == 5


def test_without_a_price_nothing_is_known_of_costs(ledger):
    inquiry = Inquiry(PretendJudge(), ledger, STORY)
    settled(inquiry, items("a"))
    assert (inquiry.bill.prompt_tokens, inquiry.bill.completion_tokens) == (100, 10)


@pytest.mark.parametrize("most", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_an_amount(most, ledger):
    with pytest.raises(UsageError, match="expected a number above 0"):
        Inquiry(PretendJudge(), ledger, STORY, PRICE, most)


def test_a_budget_needs_a_price(ledger):
    with pytest.raises(UsageError, match="--max-cost 5: no price is known; give --prices"):
        Inquiry(PretendJudge(), ledger, STORY, None, 5.0)


def test_a_budget_stops_in_good_order_and_counts_what_was_spent_before(ledger):
    texts = items("abcdefghij")
    first = Inquiry(PretendJudge(), ledger, STORY, PRICE, 7.0)
    assert len(settled(first, texts)) == 3
    assert (first.bill.cost, first.bill.left) == (pytest.approx(6.0), 7)
    second = Inquiry(PretendJudge(), ledger, STORY, PRICE, 11.0)
    assert len(settled(second, texts)) == 3 + 2
    assert (second.bill.earlier, second.bill.left) == (pytest.approx(6.0), 5)
    third = Inquiry(PretendJudge(), ledger, STORY, PRICE, 11.0)
    assert len(settled(third, texts)) == 5
    assert third.bill.cost == 0
    assert len(settled(Inquiry(PretendJudge(), ledger, STORY, PRICE, 99.0), texts)) == 10


def test_questions_wait_for_those_on_their_way_instead_of_being_left_out(ledger):
    """A question may cost 20 and costs 2: ten may be asked for 38, though not at once."""
    judge = PretendJudge(places=8, most=(1000.0, 100.0))
    inquiry = Inquiry(judge, ledger, STORY, PRICE, 38.0)
    assert len(settled(inquiry, items("abcdefghij"))) == 10
    assert judge.busiest == 1
    assert inquiry.bill.left == 0


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.floats(0.5, 60.0),
    st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=40),
)
def test_no_more_is_spent_than_the_budget(tmp_path_factory, seed, places, budget, texts):
    source = random.Random(seed)

    def answer(question):
        read, written = source.randint(0, 300), source.randint(0, 30)
        if source.random() < 0.3:
            return Reply(None, "no score", None, "", None, 2, read, written)
        if source.random() < 0.2:
            return Reply(None, None, "cut", "", None, 1, read, written)
        return Reply(sevens(question).verdict, prompt_tokens=read, completion_tokens=written)

    folder = tmp_path_factory.mktemp("budget")
    with Ledger(folder / "judgements.sqlite") as ledger:
        for _ in range(2):
            judge = PretendJudge(answer, places=places, most=(300.0, 30.0))
            inquiry = Inquiry(judge, ledger, STORY, PRICE, budget)
            found = settled(inquiry, items(texts))
            spent = ledger.spent(judge.name)
            cost = PRICE.of(spent.prompt_tokens, spent.completion_tokens)
            assert cost <= budget
            assert cost == pytest.approx(inquiry.bill.cost + inquiry.bill.earlier)
            assert len(found) + inquiry.bill.left == len(texts)
            # it stops only where one more could be too much
            assert not inquiry.bill.left or cost + 6.0 > budget


@given(st.lists(st.sampled_from("abcdefgh"), max_size=20), st.integers(0, 8))
@settings(max_examples=30)
def test_a_dry_run_predicts_exactly_what_is_asked(tmp_path_factory, texts, known):
    with Ledger(tmp_path_factory.mktemp("dry") / "judgements.sqlite") as ledger:
        settled(Inquiry(PretendJudge(), ledger, STORY), items("abcdefgh"[:known]))
        judge = PretendJudge()
        inquiry = Inquiry(judge, ledger, STORY, PRICE)
        dry = inquiry.expected(items(texts))
        assert judge.asked == []
        assert inquiry.bill.asked == 0
        settled(inquiry, items(texts))
        assert dry.asked == inquiry.bill.asked == len(judge.asked)
        assert dry.cost == pytest.approx(inquiry.bill.cost)
        assert dry.prompt_tokens == inquiry.bill.prompt_tokens
        assert dry.earlier == inquiry.bill.earlier


def test_a_dry_run_goes_by_what_answers_took(ledger):
    judge = PretendJudge(likely=(100.0, 80.0))
    assert Inquiry(judge, ledger, STORY, PRICE).expected(items("ab")).completion_tokens == 160
    settled(Inquiry(judge, ledger, STORY), items("a"))
    assert Inquiry(judge, ledger, STORY, PRICE).expected(items("ab")).completion_tokens == 10


@pytest.mark.parametrize(
    "text",
    [
        "m: {read: 0.4, written: 1.6}\n",
        '{"m": {"read": 0.4, "written": 1.6}}',
        "m: {read: 0.4, written: 1.6, currency: USD}\nn: {read: 0, written: 0}\n",
    ],
)
def test_prices_are_read(text, tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    price = read_prices(path)["m"]
    assert price.of(1e6, 1e6) == pytest.approx(2.0)
    assert price.of(1000, 0) == pytest.approx(0.0004)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("5", "no table"),
        ("[a]", "no table"),
        ("m: [1, 2", "line 1: no YAML"),
        ("a: 1\nm: {read: 1, written: 2}\n", "a: 1, expected"),
        ("m: {read: 1}", "m: {'read': 1}, expected"),
        ("m: {read: 1, written: high}", "expected MODEL"),
        ("m: {read: 1, written: true}", "expected MODEL"),
        ("m: {read: 1, written: -2}", "below 0"),
        ("m: {read: 1, written: .nan}", "below 0"),
        ("m: {read: 1, written: .inf}", "expected MODEL"),
        ("m: {read: 1, written: " + "9" * 400 + "}", "expected MODEL"),
        ("m: {read: 1, written: 2, cached: 1}", "expected MODEL"),
        ("m: \x07", "no YAML"),
    ],
)
def test_bad_prices_are_one_line(text, words, tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_prices(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_table_of_prices_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prices(tmp_path / "none.yaml")


def test_a_price_is_found_by_name_or_model():
    table = {"m": Price(1, 2, "USD"), "openai:m@http://h/v1": Price(3, 4)}
    assert price_of(table, JudgeName.parse("openai:m@http://h/v1")) == Price(3, 4)
    assert price_of(table, JudgeName.parse("openai:m@http://other/v1")) == Price(1, 2, "USD")
    assert price_of({}, JudgeName.parse("openai:n")) is None
    assert price_of(table, JudgeName.parse("hf:smollm2-135m")) == Price(0, 0, "USD")
    assert price_of({"x": Price(5, 6)}, JudgeName.parse("hf:x")) == Price(5, 6)
    with pytest.raises(UnknownNameError, match="unknown model in --prices 'n'"):
        price_of(table, JudgeName.parse("openai:n"))


@pytest.mark.parametrize(
    ("cost", "shown"), [(0.00012, "0.0001 USD"), (1.5, "1.50 USD"), (1234.5, "1,234.50 USD")]
)
def test_costs_as_text(cost, shown):
    assert Price(1, 1, "USD").shown(cost) == shown
