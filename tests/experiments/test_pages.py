"""Pages of studies are what their records give; what is written by hand stands in the tables."""

import csv
import re
from pathlib import Path

import pytest

from experiments.page import write_page
from experiments.study import read_study

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "experiments"
PAGES = ROOT / "docs" / "experiments"
REPORTED = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")


def test_every_study_with_records_has_a_page():
    recorded = {path.name for path in (STUDIES / "records").iterdir() if path.is_dir()}
    assert recorded == set(REPORTED)


@pytest.mark.parametrize("name", REPORTED)
def test_a_page_and_its_numbers_are_those_of_the_records(name, tmp_path):
    path = STUDIES / f"{name}.yaml"
    page = write_page(read_study(path), path, STUDIES / "records" / name, tmp_path)
    assert page.read_text() == (PAGES / f"{name}.md").read_text()
    tables = {table.name: table.read_text() for table in (tmp_path / name).glob("*.csv")}
    kept = {table.name: table.read_text() for table in (PAGES / name).glob("*.csv")}
    assert tables == kept
    for picture in (tmp_path / name).glob("*.png"):
        assert (PAGES / name / picture.name).is_file()


@pytest.mark.parametrize("name", REPORTED)
def test_links_of_a_page_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#]+)", (PAGES / f"{name}.md").read_text()):
        assert (PAGES / link).exists(), link


def test_the_pilots_of_the_page_are_those_of_their_curves():
    section = (PAGES / "README.md").read_text().split("## Pilots")[1]
    with (STUDIES / "records" / "pilots.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = {}
    for row in rows:
        last[row["task"], row["settings"], row["seed"]] = row
    shown = re.findall(r"^\| (sums_\w+) \| (.+?) \| (\d+) \| \d+–(\d+) \| (.+) \|$", section, re.M)
    assert len(shown) == len(last)
    for (task, settings, seed, step, cells), row in zip(shown, last.values(), strict=True):
        assert (task, seed, step) == (row["task"], row["seed"], row["last_step"])
        assert re.findall(r"\d[\d.]*", settings) == re.findall(r"\d[\d.]*", row["settings"])
        numbers = [row[name] for name in list(row)[5:] if row[name]]
        order = ("reward", "entropy_bits", "kl_bits", "unique")
        assert [name.split("/")[0] for name in list(row)[5::2]] == list(order)
        assert re.findall(r"[\d.]+", cells) == numbers
