"""Values, averages, ranks and marks of a board, from runs on disk."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from boarding import PAPER, board, by_doc, cell, make_run, refused, rows, share
from scipy import stats

from psplit_eval.cli import main
from psplit_eval.comparison import compare_pairs
from psplit_eval.entrants import read_entrants
from psplit_eval.measures import HarnessScorer
from psplit_eval.ranking import make_board
from psplit_eval.ranks import Contrast, rank_intervals
from psplit_eval.stats import stratified_difference

NORMAL = {"normal": None}


def ranks(row, task, metric="accuracy_avg"):
    found = cell(row, task, metric)
    return found["rank_low"], found["rank_high"], found["n_ranked"]


@pytest.fixture
def three(tmp_path):
    """Two that differ by one sample of four on every doc, and one like the first."""
    return [
        make_run(tmp_path / "a", "a", by_doc(1), docs=range(20), modes=NORMAL),
        make_run(tmp_path / "b", "b", by_doc(2), docs=range(20), modes=NORMAL),
        make_run(tmp_path / "c", "c", by_doc(1), docs=range(20), modes=NORMAL),
    ]


def test_values_ranks_and_order(three, capsys):
    found = board(capsys, *three)
    assert [row["model"] for row in found["rows"]] == ["b", "a", "c"]
    known = rows(found)
    a, b = (known[name, "normal", ""] for name in "ab")
    values = [min(4, doc % 3 + 1) / 4 for doc in range(20)]
    assert cell(a, "t")["value"] == pytest.approx(np.mean(values))
    assert (cell(a, "t")["n_docs"], cell(a, "t")["n_samples"]) == (20, 80)
    assert ranks(b, "t") == (1, 1, 3)
    assert ranks(a, "t") == ranks(known["c", "normal", ""], "t") == (2, 3, 3)


def test_ranks_are_those_of_the_comparisons_own_tests(tmp_path):
    """The p-values are those that `compare` and `report` find for the same pairs."""
    for name, right in {"a": by_doc(1), "b": share(3), "c": by_doc(0)}.items():
        make_run(tmp_path / name, name, right, docs=range(12))
    entrants = read_entrants([str(tmp_path / name) for name in "abc"])
    found = make_board(entrants)
    arms = [entrant.arms["t"] for entrant in entrants]
    contrasts = {}
    for i in range(6):
        for j in range(i + 1, 6):
            (primary,) = [c for c in compare_pairs([(arms[i], arms[j])]) if c.primary]
            contrasts[i, j] = Contrast(primary.result.difference, primary.result.p)
    expected = dict(zip([e.name for e in entrants], rank_intervals(6, contrasts), strict=True))
    ours = {row.entrant.name: row.cells["t", "accuracy_avg"].ranks for row in found.rows}
    assert ours == expected
    assert len(set(expected.values())) > 1


def test_entropy_has_no_ranks(three, capsys):
    found = cell(board(capsys, *three)["rows"][0], "t", "entropy_bits")
    assert found["rank_low"] is None
    assert found["notes"] == []
    assert found["value"] > 0


def paper_run(folder, name, right, tasks=PAPER, **changes):
    return make_run(folder, name, right, tasks=tasks, modes=NORMAL, **changes)


def test_the_average_is_the_plain_mean_of_four_columns(tmp_path, capsys):
    """AIME is pooled though its halves come from two runs: it counts once, not twice."""
    paper_run(tmp_path / "a", "a", by_doc(1), [t for t in PAPER if t != "psplit_aime25"])
    paper_run(tmp_path / "a25", "a", by_doc(2), ["psplit_aime25"], docs=range(24))
    paper_run(tmp_path / "b", "b", by_doc(0), [t for t in PAPER if t != "psplit_aime25"])
    paper_run(tmp_path / "b25", "b", by_doc(0), ["psplit_aime25"], docs=range(24))
    runs = [tmp_path / name for name in ("a", "a25", "b", "b25")]
    found = board(capsys, *runs)
    titles = [c["title"] for c in found["columns"] if c["metric"] == "accuracy_avg"]
    assert titles == ["MATH-500", "AIME", "GPQA-Diamond", "MMLU-Pro", "Average"]
    a = found["rows"][0]
    one, two = 0.5, 0.75  # per-doc means of 1, 2, 3 and of 2, 3, 4 right of 4
    pooled = (12 * one + 24 * two) / 36
    assert cell(a, "psplit_aime")["value"] == pytest.approx(pooled)
    assert cell(a, "average")["value"] == pytest.approx((3 * one + pooled) / 4)
    entropies = [
        cell(a, task, "entropy_bits")["value"]
        for task in ("psplit_math500", "psplit_aime", "psplit_gpqa_diamond", "psplit_mmlu_pro")
    ]
    assert cell(a, "average", "entropy_bits")["value"] == pytest.approx(np.mean(entropies))
    low, high = cell(a, "average")["ci_low"], cell(a, "average")["ci_high"]
    assert 0 < low < cell(a, "average")["value"] < high < 1


@pytest.mark.parametrize("changes", [{"sampling": {"temperature": 1.0}}, {"thinking": True}])
def test_runs_with_other_settings_are_neither_pooled_nor_averaged(changes, tmp_path, capsys):
    rest = [task for task in PAPER if task != "psplit_aime25"]
    paper_run(tmp_path / "a", "a", by_doc(1), rest)
    paper_run(tmp_path / "a25", "a", by_doc(1), ["psplit_aime25"], **changes)
    found = board(capsys, tmp_path / "a", tmp_path / "a25")
    (row,) = found["rows"]
    assert {"psplit_aime24", "psplit_aime25"} <= {c["task"] for c in found["columns"]}
    assert "psplit_aime" not in {c["task"] for c in found["columns"]}
    (note,) = row["notes"]
    assert note.startswith("psplit_aime is not pooled, its tasks were run with other settings: ")
    assert f"({tmp_path / 'a'}) against " in note
    assert cell(row, "average")["value"] is None
    (note,) = cell(row, "average")["notes"]
    assert note.startswith("no average over runs with other settings: ")


def test_subsets_are_marked_and_still_ranked(tmp_path, capsys):
    paper_run(tmp_path / "a", "a", by_doc(1))
    paper_run(tmp_path / "b", "b", by_doc(2))
    make_run(tmp_path / "t", "a", modes=NORMAL, entry={"docs_in_all": 40})
    found = board(capsys, tmp_path / "a", tmp_path / "b", tmp_path / "t")
    a = rows(found)["a", "normal", ""]
    assert cell(a, "psplit_math500")["remarks"] == ["a subset, 12 of 500 docs"]
    assert cell(a, "psplit_aime", "entropy_bits")["remarks"] == ["a subset, 24 of 60 docs"]
    assert cell(a, "t")["remarks"] == ["a subset, 12 of 40 docs"]
    assert "MMLU-Pro: a subset, 12 of 12,032 docs" in cell(a, "average")["remarks"]
    assert ranks(a, "average") == (2, 2, 2)
    whole = board(capsys, make_run(tmp_path / "w", docs=range(60), tasks=["psplit_aime24", "t"]))
    assert not [each for row in whole["rows"] for each in row["cells"] if each["remarks"]]


@pytest.mark.parametrize(
    ("metric", "higher", "section"),
    [
        ("word_perplexity", False, "other"),
        ("rhyme", True, "other"),
        ("exact_match", True, "accuracy"),
    ],
)
def test_only_shares_of_right_answers_are_accuracies(metric, higher, section, tmp_path, capsys):
    scorer = HarnessScorer("t", "d", {}, metric, {metric: higher}).to_dict()
    run = make_run(tmp_path / "a", modes=NORMAL, entry={"scorer": scorer})
    with closing(sqlite3.connect(run / "samples.sqlite")) as store, store:
        store.execute("UPDATE metrics SET metric = ? WHERE metric = 'accuracy_avg'", (metric,))
    assert {c["section"] for c in board(capsys, run)["columns"]} == {section, "entropy"}
    assert main(["leaderboard", str(run)]) == 0
    text = capsys.readouterr().out
    assert ("Per cent right" in text) == (section == "accuracy")
    assert ("Other tasks" in text) == (section == "other")


def test_the_average_is_ranked_by_its_own_test(tmp_path):
    paper_run(tmp_path / "a", "a", by_doc(1))
    paper_run(tmp_path / "b", "b", by_doc(2))
    entrants = read_entrants([str(tmp_path / name) for name in "ab"])
    a, b = [row.cells["average", "accuracy_avg"] for row in reversed(make_board(entrants).rows)]
    assert (str(b.ranks), str(a.ranks)) == ("1", "2")
    gaps = [
        compare_pairs([(entrants[0].arms[task], entrants[1].arms[task])])[0].result
        for task in ("psplit_math500", "psplit_gpqa_diamond", "psplit_mmlu_pro")
    ]
    assert stratified_difference(gaps).difference == pytest.approx(
        b.value.estimate.value - a.value.estimate.value
    )


def test_a_row_without_a_column_has_no_average(tmp_path, capsys):
    paper_run(tmp_path / "a", "a", by_doc(1), ["psplit_math500", "psplit_aime24"])
    found = cell(board(capsys, tmp_path / "a")["rows"][0], "average")
    assert (found["value"], found["rank_low"]) == (None, None)
    assert found["notes"] == ["no average without AIME, GPQA-Diamond, MMLU-Pro"]


def test_temperatures_are_marked_and_not_ranked_together(tmp_path, capsys):
    make_run(tmp_path / "a", "a", by_doc(1), modes=NORMAL)
    make_run(tmp_path / "b", "b", by_doc(2), modes=NORMAL)
    make_run(tmp_path / "a1", "a", by_doc(2), modes=NORMAL, sampling={"temperature": 1.0})
    runs = [tmp_path / name for name in ("a1", "a", "b")]
    known = rows(board(capsys, *runs))
    warm = cell(known["a", "normal", "temperature 1"], "t")
    assert warm["rank_low"] is None
    assert warm["notes"] == [
        "not comparable with a, normal, temperature 0.6: temperature: 1.0 against 0.6 "
        f"({runs[0]} against {runs[1]})"
    ]
    assert warm["value"] is not None
    assert ranks(known["b", "normal", ""], "t")[2] == 2
    line = refused(capsys, *runs, "--strict")
    assert "t: not comparable with a, normal, temperature 0.6" in line


def test_other_docs_are_marked_though_some_are_shared(tmp_path, capsys):
    make_run(tmp_path / "a", "a", docs=range(12), modes=NORMAL)
    make_run(tmp_path / "b", "b", docs=range(6, 20), modes=NORMAL)
    known = rows(board(capsys, tmp_path / "a", tmp_path / "b"))
    (note,) = cell(known["b", "normal", ""], "t")["notes"]
    assert "docs: 14 against 12, 6 of them the same" in note


def test_docs_are_the_same_by_content_whatever_their_order(tmp_path, capsys):
    """Row numbers differ between copies of a data set. Each doc has one more right in b; paired by
    number, docs of one gain 3, others lose 1, and nothing is certain."""
    make_run(tmp_path / "a", "a", by_doc(1), modes=NORMAL)
    turned = {"docs": range(11, -1, -1), "by_place": True}
    make_run(tmp_path / "b", "b", by_doc(2), modes=NORMAL, **turned)
    known = rows(board(capsys, tmp_path / "a", tmp_path / "b"))
    assert ranks(known["b", "normal", ""], "t") == (1, 1, 2)


def test_missing_samples(tmp_path, capsys):
    failed = [(doc, 0) for doc in range(12)]
    make_run(tmp_path / "a", "a", by_doc(1), failed=failed, modes=NORMAL)
    make_run(tmp_path / "b", "b", by_doc(2), modes=NORMAL)
    runs = [tmp_path / name for name in "ab"]
    found = cell(rows(board(capsys, *runs))["a", "normal", ""], "t")
    assert found["notes"] == ["25.0% of the samples are missing"]
    assert (found["ci_low"], found["rank_low"]) == (None, None)
    allowed = cell(rows(board(capsys, *runs, "--allow-missing"))["a", "normal", ""], "t")
    assert (allowed["rank_high"], allowed["notes"]) == (2, [])


def test_few_docs_rank_nothing(tmp_path, capsys):
    make_run(tmp_path / "a", "a", share(0), docs=range(3), modes=NORMAL)
    make_run(tmp_path / "b", "b", share(4), docs=range(3), modes=NORMAL)
    known = rows(board(capsys, tmp_path / "a", tmp_path / "b"))
    assert ranks(known["a", "normal", ""], "t") == (1, 2, 2)


def test_one_row_is_the_first(tmp_path, capsys):
    make_run(tmp_path / "a", modes=NORMAL)
    assert ranks(board(capsys, tmp_path / "a")["rows"][0], "t") == (1, 1, 1)


def test_stories_have_quality_and_what_is_published_of_them(tmp_path, capsys):
    make_run(tmp_path / "a", "a", tasks=["psplit_story"], modes=NORMAL)
    found = board(capsys, tmp_path / "a", "--published", "qwen3-8b")
    metrics = [column["metric"] for column in found["columns"]]
    assert metrics == [
        *("effective_dispersion", "quality", "div_ngram_2", "div_bleu_4", "entropy_bits")
    ]
    (note,) = cell(found["rows"][0], "psplit_story", "effective_dispersion")["notes"]
    assert note.startswith("effective_dispersion is not measured")
    high = found["published"][-1]
    assert (high["method"], high["mode"], high["source"]) == ("Policy Split", "high", "published")
    assert {c["metric"]: c["value"] for c in high["cells"]} == pytest.approx(
        {"div_ngram_2": 0.5208, "div_bleu_4": 0.6534}
    )
    assert high["judged"]["imagery"] == pytest.approx(6.567)


def test_metrics_that_depend_on_the_number_of_samples_are_marked(tmp_path, capsys):
    """With more references BLEU rises: 4 samples are no worse than 3, they are another thing."""
    for name, samples in {"a": 4, "b": 3, "c": 4}.items():
        made = {"tasks": ["psplit_story"], "modes": NORMAL, "docs": range(5)}
        make_run(tmp_path / name, name, samples=samples, **made)
    known = rows(board(capsys, *(tmp_path / name for name in "abc")))
    b = known["b", "normal", ""]
    (note,) = cell(b, "psplit_story", "div_bleu_4")["notes"]
    assert note == "3 samples a doc against 4, on which div_bleu_4 depends"
    assert cell(b, "psplit_story", "div_bleu_4")["rank_low"] is None
    assert ranks(b, "psplit_story", "div_ngram_2")[2] == 3
    assert ranks(known["a", "normal", ""], "psplit_story", "div_bleu_4")[2] == 2


def test_which_published_rows_are_shown(tmp_path, capsys):
    make_run(tmp_path / "a", "Qwen/Qwen3-4B", tasks=["psplit_math500"], modes=NORMAL)
    make_run(tmp_path / "b", "other", tasks=["t"], modes=NORMAL)

    def models(*arguments):
        return {row["model"] for row in board(capsys, *arguments)["published"]}

    a, b = tmp_path / "a", tmp_path / "b"
    assert models(a) == models(f"base={a}") == {"qwen3-4b"}
    assert models(a, "--published", "none") == models(b, "--published", "all") == set()
    assert models(a, "--published", "all") == {"qwen3-1.7b", "qwen3-4b", "qwen3-8b"}
    assert models(a, "--published", "qwen3-8b,Qwen3-4B") == {"qwen3-4b", "qwen3-8b"}
    row = board(capsys, a)["published"][0]
    assert {c["task"] for c in row["cells"]} == {"psplit_math500", "average"}
    assert all(c.keys() == {"task", "metric", "value"} for c in row["cells"])
    assert "did you mean 'qwen3-8b'" in refused(capsys, a, "--published", "qwen3-8")
    assert "expected all, none" in refused(capsys, a, "--published", "qwen3-8b,")


def test_texts_are_not_read(tmp_path, capsys):
    """A run whose texts cannot be decoded makes the same board."""
    import sqlite3

    run = make_run(tmp_path / "a")
    before = board(capsys, run)
    with sqlite3.connect(run / "samples.sqlite") as db:
        db.execute("UPDATE samples SET text = CAST(x'ff' AS TEXT), completion_ids = x'00'")
    assert board(capsys, run) == before
    assert json.dumps(before)


def test_simulated_boards_hold_the_true_ranks(tmp_path):
    """From samples on disk to ranks: three equal checkpoints and one that is better."""
    rng = np.random.default_rng(0)
    failures = 0
    for number in range(10):
        for name in "abcd":
            chance = 0.8 if name == "d" else 0.5
            grid = rng.random((15, 4)) < chance
            right = lambda mode, doc, index, grid=grid: grid[doc, index]  # noqa: E731
            folder = tmp_path / f"{number}{name}"
            make_run(folder, name, right, docs=range(15), modes=NORMAL)
        made = make_board(read_entrants([str(tmp_path / f"{number}{name}") for name in "abcd"]))
        found = {row.entrant.model: row.cells["t", "accuracy_avg"].ranks for row in made.rows}
        failures += found["d"].low > 1 or any(
            found[name].low > 2 or found[name].high < 4 for name in "abc"
        )
    assert failures < stats.binom.ppf(0.999, 10, 0.05) + 1
