"""Pages of studies are what their records give; what is written by hand stands in the tables."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis import MODES, claims, excess, seed_mean, trained_arms
from experiments.page import write_page
from experiments.records import read_records, read_stopped
from experiments.study import read_study
from psplit_eval.stats import crossed_difference

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "experiments"
PAGES = ROOT / "docs" / "experiments"
REPORTED = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")


def cells(path):
    """Rows, each column's name and cell: a number where it is one."""
    with path.open() as file:
        return [
            {name: float(cell) if number(cell) else cell for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def number(cell):
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell) is not None


def test_every_study_with_records_has_a_page():
    recorded = {path.name for path in (STUDIES / "records").iterdir() if path.is_dir()}
    assert recorded == set(REPORTED)


@pytest.mark.parametrize("name", REPORTED)
def test_a_page_and_its_numbers_are_those_of_the_records(name, tmp_path):
    path = STUDIES / f"{name}.yaml"
    page = write_page(read_study(path), path, STUDIES / "records" / name, tmp_path)
    assert page.read_text() == (PAGES / f"{name}.md").read_text()
    made = {path.name: path for path in (tmp_path / name).iterdir()}
    kept = {path.name: path for path in (PAGES / name).iterdir()}
    assert set(made) == set(kept)
    for table in sorted(file for file in made if file.endswith(".csv")):
        rows, expected = cells(made[table]), cells(kept[table])
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other), table  # the last digits are the machine's


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


def test_what_the_readme_says_of_the_study_holds():
    """Published settings left one policy; opposite bonuses made two, one of them with more than
    twice as many different right answers."""
    said = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert "the published settings left one policy" in said
    assert "more than twice as many different right answers" in said
    path = STUDIES / "sums.yaml"
    arms = trained_arms(read_study(path), read_records(STUDIES / "records" / "sums"))
    mean = {
        (arm.arm.name, metric, mode): arm.values(metric, mode).mean()
        for arm in arms
        for metric in ("entropy", "unique")
        for mode in ("normal", "high")
    }
    for form in ("code", "paper"):
        arm = f"Policy Split ({form})"
        assert abs(mean[arm, "entropy", "high"] - mean[arm, "entropy", "normal"]) < 0.02
    opposed, plain = (next(a for a in arms if a.arm.name == name) for name in ("opposed", "GRPO"))
    gaps = (opposed.values("entropy", "high") - opposed.values("entropy", "normal")).mean(axis=1)
    assert f"{gaps.mean():.2f} bits a token apart" in said
    assert gaps.min() > 0.25, "in every seed"
    right = {mode: f"{100 * opposed.values('accuracy', mode).mean():.1f} %" for mode in MODES}
    grpo = plain.values("accuracy", "normal")
    assert f"{right['normal']} right in normal (GRPO: {100 * grpo.mean():.1f};" in said
    assert f"{right['high']} in high" in said
    difference = crossed_difference(grpo, opposed.values("accuracy", "normal"))
    assert f"known to ±{50 * (difference.ci_high - difference.ci_low):.1f} points" in said
    assert mean["opposed", "unique", "high"] > 2 * mean["opposed", "unique", "normal"]
    assert mean["opposed", "unique", "high"] > 2 * mean["GRPO", "unique", "normal"]


def test_what_the_guide_says_of_the_language_model_holds():
    said = re.sub(r"\s+", " ", (ROOT / "docs" / "training.md").read_text())
    whole = STUDIES / "records" / "smollm2"
    records = [*read_records(whole), *read_stopped(whole)]

    def mean(arm, metric, mode):
        found = [seed_mean(record, metric, mode) for record in records if record.arm == arm]
        assert len(found) == 2
        return np.mean(found)

    for arm in ("opposed", "milder"):
        gap = mean(arm, "entropy", "high") - mean(arm, "entropy", "normal")
        times = mean(arm, "unique", "high") / mean(arm, "unique", "normal")
        right = [100 * mean(arm, "accuracy", mode) for mode in MODES]
        assert f"| {gap:.2f} bits apart" in said
        words = (
            f"{times:.1f} times as many different right answers in high; "
            "{:.1f} % right in normal, {:.1f} in high (two seeds)"
        )
        assert words.format(*right) in said
    overview = re.sub(r"\s+", " ", (PAGES / "README.md").read_text())
    right = [100 * mean("opposed", "accuracy", mode) for mode in MODES]
    right += [100 * mean("GRPO", "accuracy", "normal")]
    unique = [mean("opposed", "unique", mode) for mode in ("high", "normal")]
    unique += [mean("GRPO", "unique", "normal")]
    assert (
        "{:.1f} % right in normal, {:.1f} in high and {:.1f} in GRPO's".format(*right) in overview
    )
    assert "with {:.1f}, {:.1f} and {:.1f} different right".format(*unique) in overview
    gap = mean("opposed", "entropy", "high") - mean("opposed", "entropy", "normal")
    assert f"In SmolLM2 it is {gap:.2f} bits" in overview
    tries = [
        100 * mean(arm, "best of 8", mode)
        for arm, mode in (("opposed", "high"), ("GRPO", "normal"))
    ]
    assert (
        "right for {:.1f} % of the questions in high, and for {:.1f} in".format(*tries) in overview
    )
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert "{:.1f} % right in normal and {:.1f} in high (GRPO {:.1f})".format(*right) in readme
    words = "{:.1f} different right answers of 32 in high, {:.1f} in normal and {:.1f} in GRPO's"
    assert words.format(*unique) in readme
    for record in records:
        if record.arm == "Policy Split (code)":
            ends = [np.mean(record.log[f"entropy_bits/{mode}"][-2:]) for mode in MODES]
            assert abs(ends[1] - ends[0]) < 0.02


def test_what_the_overview_says_was_found_holds():
    """Numbers to the digit that is written there."""
    said = re.sub(r"\s+", " ", (PAGES / "README.md").read_text().split("## How a study")[0])
    path = STUDIES / "sums.yaml"
    arms = trained_arms(read_study(path), read_records(STUDIES / "records" / "sums"))
    by_name = {each.arm.name: each for each in arms}

    def mean(name, metric, mode):
        return by_name[name].values(metric, mode).mean()

    for form in ("code", "paper"):
        arm = f"Policy Split ({form})"
        assert abs(mean(arm, "entropy", "high") - mean(arm, "entropy", "normal")) < 0.01
    unique = [mean(*of) for of in (("opposed", "unique", "high"), ("opposed", "unique", "normal"))]
    assert f"high has {unique[0]:.1f} different right answers among 32" in said
    assert (
        "its normal mode has {:.1f} and GRPO's model {:.1f}".format(
            unique[1], mean("GRPO", "unique", "normal")
        )
        in said
    )
    right = [100 * mean("opposed", "accuracy", mode) for mode in ("high", "normal")]
    assert "{:.1f} % right to normal's {:.1f}".format(*right) in said
    together = [mean("no opposite bonus", "entropy", mode) for mode in ("normal", "high")]
    assert "{:.2f} and {:.2f} bits (one seed)".format(*together) in said
    beyond = {
        name: np.mean([excess(record) for record in by_name[name].records])
        for name in ("opposed", "opposed + neutral")
    }
    assert f"its KL is {beyond['opposed']:.2f} bits" in said
    assert f"raises that to {beyond['opposed + neutral']:.2f}" in said
    mild = [100 * mean("milder", "accuracy", mode) for mode in MODES]
    gap = mean("milder", "entropy", "high") - mean("milder", "entropy", "normal")
    times = mean("milder", "unique", "high") / mean("milder", "unique", "normal")
    assert f"parts the modes by {gap:.2f} bits only" in said
    guide = (ROOT / "docs" / "training.md").read_text()
    assert f"{gap:.2f} bits apart, {times:.1f} times as many different right answers" in guide
    assert "{:.1f} % right in normal, {:.1f} in high (three seeds)".format(*mild) in guide
    records = by_name["milder"].records
    verdicts = [s["verdict"] for r in records for s in r.splits if s["mode"] == "high"]
    assert verdicts == ["no"] * 3
    claim = next(c for c in claims(read_study(path), arms) if c.arm == "milder")
    assert "normal less GRPO's" in claim.words
    assert claim.answer == "yes"
    kept = mean("opposed + neutral", "unique", "high")
    assert f"({kept:.1f} different answers)" in said
    assert (
        f"more entropy than GRPO ({mean('forking tokens', 'entropy', 'normal'):.2f} bits)" in said
    )
    clipped, penalised = (by_name[name].records[0] for name in ("clip-higher", "KL-Cov"))
    assert clipped.evaluations == penalised.evaluations


def test_what_is_said_of_walks_holds():
    """README, overview and guide say the same of it."""
    path = STUDIES / "walks.yaml"
    arms = trained_arms(read_study(path), read_records(STUDIES / "records" / "walks"))
    by_name = {each.arm.name: each for each in arms}

    def mean(name, metric, mode):
        return by_name[name].values(metric, mode).mean()

    milder = [100 * mean("milder", "accuracy", mode) for mode in MODES]
    broken = [100 * mean("opposed", "accuracy", mode) for mode in MODES]
    unique = [mean("milder", "unique", mode) for mode in MODES]
    solved = 100 * mean("GRPO", "accuracy", "normal")
    gap = mean("milder", "entropy", "high") - mean("milder", "entropy", "normal")
    readme, overview, guide = (
        re.sub(r"\s+", " ", (ROOT / page).read_text())
        for page in ("README.md", "docs/experiments/README.md", "docs/training.md")
    )
    assert f"({broken[1]:.0f} % right in high)" in readme
    assert "({:.1f} % and {:.1f} %; GRPO {:.1f} %)".format(*milder, solved) in readme
    assert f"made {unique[1] / unique[0]:.1f} times as many different ones" in readme
    assert f"high fell to {broken[1]:.0f} % and normal to {broken[0]:.1f} (one seed)" in overview
    assert (
        "{:.1f} % in normal and {:.1f} in high, {:.2f} bits apart".format(*milder, gap) in overview
    )
    grpo = mean("GRPO", "unique", "normal")
    assert f"{unique[1]:.0f} different right answers in high, {unique[0]:.0f} in normal" in overview
    assert f"{grpo:.0f} in GRPO's model" in overview
    lost = 100 * mean("opposed + neutral", "accuracy", "high")
    assert f"with the third mode high fell to {lost:.0f}," in overview
    records = by_name["milder"].records
    assert f"KL {np.mean([excess(record) for record in records]):.2f} beyond placebos" in overview
    verdicts = [s["verdict"] for r in records for s in r.splits if s["mode"] == "high"]
    assert (verdicts.count("yes"), len(verdicts)) == (2, 3)
    lost = 100 * (mean("GRPO", "accuracy", "normal") - mean("milder", "accuracy", "normal"))
    assert f"Normal stands {lost:.1f} points below GRPO" in overview
    assert not any(record.alarms for record in records)
    assert "{:.1f} % right in normal, {:.1f} in high (one seed) |".format(*broken) in guide
    assert "{:.1f} % right in normal, {:.1f} in high (three seeds) |".format(*milder) in guide
    assert f"{gap:.2f} bits apart, {unique[1] / unique[0]:.1f} times as many" in guide
