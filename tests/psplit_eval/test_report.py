"""What a run leaves: files for people and machines that say the same."""

import csv
import json
import re
import shutil

import pytest
from judgeable import make_run
from labelled_run import judge
from labelled_run import make_run as make_stories

from psplit_eval.cli import main


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """A judged run of stories, reported."""
    folder = tmp_path_factory.mktemp("stories") / "run"
    make_stories(folder, docs=12)
    judge(folder)
    assert main(["report", str(folder)]) == 0
    return folder


def test_every_number_for_machines_is_in_the_files(stories, capsys):
    capsys.readouterr()
    assert main(["report", str(stories), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == str(stories)
    with (stories / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(said["results"]) > 4
    for row, entry in zip(rows, said["results"], strict=True):
        assert (row["task"], row["mode"], row["metric"]) == tuple(
            entry[name] for name in ("task", "mode", "metric")
        )
        assert row["value"] == ("" if entry["value"] is None else f"{entry['value']:.6g}")
    for name in ("comparison", "divergence", "judgements"):
        content = json.loads((stories / f"{name}.json").read_text())
        own = said["comparisons"] if name == "comparison" else said[f"{name}"]
        assert own == (content["comparisons"] if name == "comparison" else content)
    assert said["answers"] == said["divergence"]["answers"]


def test_sections_stand_in_the_order_of_a_paper(stories):
    markdown = (stories / "report.md").read_text()
    heads = re.findall(r"^## (.*)$", markdown, flags=re.MULTILINE)
    assert heads == ["Accuracy", "Judges", "How the modes behave", "Samples", "Details"]
    page = (stories / "report.html").read_text()
    assert re.findall(r"<h2 id=\"[\w-]+\"[^>]*>(.*?)</h2>", page) == ["Verdict", *heads]


def test_the_verdict_stands_first_and_on_the_terminal(stories, capsys):
    capsys.readouterr()
    main(["report", str(stories)])
    out = capsys.readouterr().out
    markdown = (stories / "report.md").read_text()
    verdict = re.search(r"^\*\*(.*)\*\*$", markdown, flags=re.MULTILINE)[1]
    assert verdict in out
    assert markdown.index(verdict) < markdown.index("## ")
    assert "Accuracy kept (high beside normal): " in out


def test_every_plot_is_in_the_page_and_beside_the_markdown(stories):
    names = {path.stem for path in (stories / "plots").iterdir()}
    assert names
    page, markdown = (stories / "report.html").read_text(), (stories / "report.md").read_text()
    assert set(re.findall(r'<figure id="plot-(\w+)">', page)) == names
    assert set(re.findall(r"\]\(plots/(\w+)\.png\)", markdown)) == names


def test_a_report_is_the_same_again(stories):
    files = ["report.md", "report.html", "leaderboard.csv", "divergence.json"]
    before = [(stories / name).read_bytes() for name in files]
    assert main(["report", str(stories)]) == 0
    assert [(stories / name).read_bytes() for name in files] == before


def test_plots_of_before_do_not_stay(tmp_path):
    """A figure that is not drawn any more would pass for one of this report."""
    folder = make_run(tmp_path / "run", tasks=("sums",), scored=True)
    (folder / "plots").mkdir()
    (folder / "plots" / "old.png").write_bytes(b"")
    assert main(["report", str(folder)]) == 0
    assert "old.png" not in {path.name for path in (folder / "plots").iterdir()}


def test_a_training_log_in_the_run_is_drawn(tmp_path):
    folder = make_run(tmp_path / "run", tasks=("sums",), scored=True)
    lines = [{"step": step, "reward/high": step / 10, "reward/normal": 0.5} for step in range(5)]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert main(["report", str(folder)]) == 0
    assert "## Training" in (folder / "report.md").read_text()
    assert (folder / "plots" / "training.csv").exists()


def test_a_training_log_that_cannot_be_read_is_a_note(tmp_path):
    folder = make_run(tmp_path / "run", tasks=("sums",), scored=True)
    (folder / "training_log.jsonl").write_text("[1]\n")
    assert main(["report", str(folder)]) == 0
    assert "No training curves: " in (folder / "report.md").read_text()


def test_judgements_of_a_ledger_that_is_gone_do_not_stay(stories, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(stories, folder)
    (folder / "judgements.sqlite").unlink()
    assert main(["report", str(folder)]) == 0
    assert not (folder / "judgements.json").exists()


def test_every_place_in_a_page_has_a_name_of_its_own(stories):
    names = re.findall(r' id="([^"]*)"', (stories / "report.html").read_text())
    assert len(names) == len(set(names))
