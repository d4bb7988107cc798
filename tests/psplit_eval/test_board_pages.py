"""A board as files and on a terminal."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from boarding import board, by_doc, make_run, refused

from psplit_eval.board_pages import BOARD_COLUMNS, BOARD_FILES
from psplit_eval.cli import main

NORMAL = {"normal": None}
HOSTILE = "<script>alert(1)</script>|`x`\n\u202e[!](javascript:x)"


@pytest.fixture
def runs(tmp_path):
    """Two temperatures of one checkpoint, and another one, on a published task and one of ours."""
    tasks = ["psplit_math500", "t"]
    warm = {"temperature": 1.0}
    return [
        make_run(tmp_path / "a", "Qwen3-8B", by_doc(1), tasks=tasks),
        make_run(tmp_path / "b", "split", by_doc(2), tasks=tasks, bits=6.0),
        make_run(tmp_path / "c", "Qwen3-8B", by_doc(1), tasks=["t"], modes=NORMAL, sampling=warm),
    ]


def written(out, *runs):
    assert main(["leaderboard", *map(str, runs), "--out", str(out)]) == 0
    return out


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_every_metric_and_where_it_comes_from(runs, tmp_path, capsys):
    out = written(tmp_path / "board", *runs)
    found = lines(out / "leaderboard.csv")
    assert tuple(found[0]) == BOARD_COLUMNS
    content = board(capsys, *runs)
    for row in content["rows"]:
        for cell in row["cells"]:
            (line,) = [
                each
                for each in found
                if (each["model"], each["mode"], each["setting"], each["task"], each["metric"])
                == (row["model"], row["mode"], row["setting"], cell["task"], cell["metric"])
            ]
            for name in ("value", "ci_low", "ci_high"):
                expected = cell[name]
                assert (float(line[name]) if line[name] else None) == (
                    expected if expected is None else pytest.approx(expected, rel=1e-5)
                )
            ranks = cell["rank_low"], cell["rank_high"]
            assert (line["rank_low"], line["rank_high"]) == tuple(
                "" if rank is None else str(rank) for rank in ranks
            )
            assert line["source"] == "run"
            assert all(note in line["note"] for note in cell["notes"])
    assert any(line["metric"] == "accuracy_pass_at_2" for line in found)


def test_published_lines_of_the_csv_have_neither_interval_nor_rank(runs, tmp_path):
    found = lines(written(tmp_path / "board", *runs) / "leaderboard.csv")
    theirs = [line for line in found if line["source"] == "published"]
    assert {line["model"].split(",")[0] for line in theirs} == {"qwen3-8b"}
    assert {line["task"] for line in theirs} == {"psplit_math500", "average"}
    empty = ("ci_low", "ci_high", "n_docs", "n_samples", "rank_low", "rank_high")
    assert not [line for line in theirs if any(line[name] for name in empty)]
    few = {line["note"] for line in found if line["task"] == "psplit_math500"} - {theirs[0]["note"]}
    assert few == {"a subset, 12 of 500 docs"}
    assert {line["note"] for line in theirs} == {"as printed in arXiv 2604.11510, CC BY 4.0"}


def test_json_on_disk_is_what_is_printed(runs, tmp_path, capsys):
    out = written(tmp_path / "board", *runs)
    assert json.loads((out / "leaderboard.json").read_text()) == board(capsys, *runs)


def test_markdown_is_made_of_whole_tables(runs, tmp_path):
    text = (written(tmp_path / "board", *runs) / "leaderboard.md").read_text()
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 5  # accuracy and entropy, of published ones, too; counts
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "**Published figures, not measured here" in text
    assert re.search(r"\| \*qwen3-8b, GRPO\* \| \*94\.42\* \| \*74\.27\* \|", text)
    assert re.search(r"Qwen3-8B, normal, temperature 1 \|.*†3", text)
    assert "- †1 a subset, 12 of 500 docs" in text
    assert "- †3 not comparable with Qwen3-8B, normal, temperature 0.6" in text
    assert "- MATH-500: split, normal is the best of 4" in text
    for name in re.findall(r"\]\((plots/[^)]*)\)", text):
        assert (tmp_path / "board" / name).is_file()


def test_the_terminal_shows_ties_and_says_why_a_row_is_marked(runs, capsys):
    assert main(["leaderboard", *map(str, runs)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^split, normal +75\.0 \[[\d.]+, [\d.]+\] #1 ", text, flags=re.MULTILINE)
    assert re.search(r"^split, high +50\.0 \[[\d.]+, [\d.]+\] #2–3 ", text, flags=re.MULTILINE)
    assert "\nMATH-500: split, normal is the best of 4\n" in text
    assert "†3 not comparable with" in text
    assert "arXiv 2604.11510, CC BY 4.0" in text


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.texts, self.alts = [], set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids.add(found.get("id"))
        self.links += [found["href"]] if tag == "a" else []
        self.alts += [found["alt"]] if tag == "img" else []
        assert not [name for name in found if name.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_has_every_row_and_its_links_lead_somewhere(runs, tmp_path):
    page = _Page((written(tmp_path / "board", *runs) / "leaderboard.html").read_text())
    inner = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    assert {"note-1", "notes", "plots", "table-1"} <= set(inner)
    assert set(inner) <= page.ids
    assert "script" not in page.tags
    assert all(page.alts)
    text = " ".join(page.texts)
    for name in ("Qwen3-8B, normal, temperature 1", "split, high", "qwen3-8b, GRPO"):
        assert name in text
    assert text.count("Published figures, not measured here") == 4  # two tables, two notes
    outside = [link for link in page.links if not link.startswith(("#", "data:text/csv"))]
    assert not outside


def test_names_stay_text(tmp_path):
    run = make_run(tmp_path / "a", HOSTILE, modes={HOSTILE: "<b>Be wild.</b>"})
    other = make_run(tmp_path / "b", "b", modes={HOSTILE: "<i>Be calm.</i>"}, prompt="other")
    out = written(tmp_path / "board", f"{HOSTILE}={run}", other)
    page = _Page((out / "leaderboard.html").read_text())
    assert not {"script", "b", "i"} & set(page.tags) - {"b"}
    assert "<script>alert(1)</script>" in "".join(page.texts)
    assert "\u202e" not in (out / "leaderboard.html").read_text()
    text = (out / "leaderboard.md").read_text()
    assert "<script>" not in text
    assert "](javascript" not in text
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_an_earlier_board_is_replaced_and_other_files_are_not(runs, tmp_path, capsys):
    out = written(tmp_path / "board", *runs)
    before = {path.name for path in (out / "plots").iterdir()}
    assert "forest_psplit_math500_accuracy_avg.png" in before
    written(out, runs[2])
    after = {path.name for path in (out / "plots").iterdir()}
    assert after < before
    assert {path.name for path in out.iterdir()} == set(BOARD_FILES)
    (out / "mine.txt").write_text("keep")
    assert "holds other files (mine.txt)" in refused(capsys, *runs, "--out", out)
    assert "holds other files" in refused(capsys, *runs, "--out", runs[0])
    assert "expected a folder" in refused(capsys, *runs, "--out", out / "mine.txt")


def test_no_file_of_a_user_is_deleted(runs, tmp_path, capsys):
    mine = tmp_path / "paper" / "plots" / "frontier.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    assert "holds other files (plots)" in refused(capsys, *runs, "--out", tmp_path / "paper")
    out = written(tmp_path / "board", *runs)
    beside = [out / "plots" / name for name in ("mine.png", "my_frontier.csv", "forest_x.pdf")]
    for path in beside:
        path.write_text("keep")
    written(out, runs[2])
    assert [path.read_text() for path in [mine, *beside]] == ["keep"] * 4
    assert not (out / "plots" / "forest_psplit_math500_accuracy_avg.png").exists()


def test_the_same_runs_make_the_same_bytes(runs, tmp_path):
    one, other = written(tmp_path / "x", *runs), written(tmp_path / "y", *runs)
    files = [path for path in sorted(one.rglob("*")) if path.is_file()]
    assert [path.read_bytes() for path in files] == [
        (other / path.relative_to(one)).read_bytes() for path in files
    ]
