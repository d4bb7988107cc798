"""Pages of studies are what their records give; what is written by hand stands in the tables."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis import (
    MODES,
    claims,
    creative_comparisons,
    creative_summary,
    excess,
    matched,
    seed_mean,
    trained_arms,
)
from experiments.page import write_page
from experiments.records import read_records, read_stopped
from experiments.study import read_study
from psplit_eval.stats import crossed_difference

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "experiments"
PAGES = ROOT / "docs" / "experiments"
SMOLLM2 = STUDIES / "smollm2.yaml"
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


class Study:
    """Means of a study's arms over seeds and held-out questions."""

    def __init__(self, name):
        path = STUDIES / f"{name}.yaml"
        self.study = read_study(path)
        self.all = trained_arms(self.study, read_records(STUDIES / "records" / name))
        self.arms = {each.arm.name: each for each in self.all}

    def mean(self, arm, metric, mode):
        return self.arms[arm].values(metric, mode).mean()

    def right(self, arm):
        return [100 * self.mean(arm, "accuracy", mode) for mode in MODES]

    def unique(self, arm):
        return [self.mean(arm, "unique", mode) for mode in MODES]

    def gap(self, arm):
        return self.mean(arm, "entropy", "high") - self.mean(arm, "entropy", "normal")

    def beyond(self, arm):
        return np.mean([excess(record) for record in self.arms[arm].records])

    def far(self, arm, prompt):
        """KL(normal‖prompt) at the last checkpoint."""
        splits = [s for r in self.arms[arm].records for s in r.splits if s["mode"] == prompt]
        return np.mean([split["kl_bits"]["value"] for split in splits])

    def late(self, arm, measure):
        """Of the last fifth of training."""
        logs = [record.log[measure] for record in self.arms[arm].records]
        return np.mean([np.mean(log[-len(log) // 5 :]) for log in logs])

    def seeds(self, arm):
        return ("one", "two", "three", "four", "five")[len(self.arms[arm].records) - 1]

    def told(self, task, arm, metric, mode):
        """Mean over seeds and docs of a creative task, as the page has it."""
        return creative_summary(self.arms[arm], metric, mode, task).value_b

    def verdicts(self, arm):
        records = self.arms[arm].records
        return [s["verdict"] for r in records for s in r.splits if s["mode"] == "high"]

    def matched(self, arm):
        """What is found of one policy beside an arm's high mode, at other temperatures: by its
        name."""
        return {each.other: each for each in matched(self.study, self.all) if each.arm == arm}

    def warmer(self, place, arm):
        """What README and overview say of temperatures."""
        start, plain = (self.matched(arm)[name] for name in ("base", "GRPO"))
        words = {
            "README": "GRPO's model has {:.1f} at most, {:.0f} % right (temperature {:g}), and the "
            "start {:.1f} at {:.0f} %; high has as many at {:.1f} %",
            "overview": "GRPO's model has {:.1f} different right answers at most, at temperature "
            "{:g}, where {:.1f} % are right. The start can have {:.1f}, at {:.2f}, where {:.1f} % "
            "are. High of *{}* has as many, and {:.1f} % right: {:.1f} points more "
            "[{:.1f}, {:.1f}]",
        }[place]
        right = [100 * each.difference.value_a for each in (plain, start)]
        high, less = 100 * plain.difference.value_b, start.difference
        limits = [100 * x for x in (less.difference, less.ci_low, less.ci_high)]
        most = plain.unique[0]
        if place == "README":
            return words.format(most, right[0], plain.temperature, start.unique[0], right[1], high)
        at = (most, plain.temperature, right[0], start.unique[0], start.temperature, right[1])
        return words.format(*at, arm, high, *limits)

    def one_policy(self, arm="no opposite bonus", beside="opposed"):
        """One mode with a bonus beside the high mode of another arm."""
        return (
            f"{self.right(arm)[0]:.1f} % right with {self.unique(arm)[0]:.1f} different right "
            f"answers, and high of *{beside}* {self.right(beside)[1]:.1f} % with "
            f"{self.unique(beside)[1]:.1f}"
        )

    def came(self, arm):
        """What the guide says came of an arm."""
        normal, high = self.unique(arm)
        return (
            f"{self.gap(arm):.2f} bits apart, {high / normal:.1f} times as many different right "
            "answers in high; {:.1f} % right in normal, {:.1f} in high ({} seeds) |".format(
                *self.right(arm), self.seeds(arm)
            )
        )


@pytest.fixture(scope="module")
def sums():
    return Study("sums")


@pytest.fixture(scope="module")
def walks():
    return Study("walks")


@pytest.fixture(scope="module")
def language():
    return Study("language")


def text(page):
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


STEERED, ONE_SIDED = "steered + neutral", "milder without opposite bonus"


README_ROWS = {
    ("sums", "steered"): "sums, preset",
    ("sums", STEERED): "sums, with a neutral mode",
    ("walks", "steered"): "walks, preset",
    ("walks", STEERED): "walks, with a neutral mode",
    ("language", "steered"): "SmolLM2, word problems, preset",
    ("language", STEERED): "SmolLM2, word problems, with a neutral mode",
}


def readme_row(study, arm, label):
    right, unique, said = study.right(arm), study.unique(arm), study.verdicts(arm)
    cells = (
        label,
        "{:.1f} / {:.1f} ({:.1f})".format(*right, study.right("GRPO")[0]),
        "{:.1f} / {:.1f} ({:.1f})".format(*unique, study.unique("GRPO")[0]),
        f"{study.gap(arm):.2f} bits",
        f"in {said.count('yes')} of {len(said)} seeds",
    )
    return f"| {' | '.join(cells)} |"


def test_what_the_readme_says_of_the_studies_holds(sums, walks, language):
    said, studies = text("README.md"), {"sums": sums, "walks": walks, "language": language}
    assert "the published settings left one policy" in said
    for study, forms in ((sums, ("code", "paper")), (walks, ("code",))):
        for form in forms:
            assert abs(study.gap(f"Policy Split ({form})")) < 0.02
    for study in (sums, walks):
        opposed = study.arms["opposed"]
        gaps = [opposed.values("entropy", mode).mean(axis=1) for mode in MODES]
        assert (gaps[1] - gaps[0]).min() > 0.25, "in every seed"
    for (name, arm), label in README_ROWS.items():
        assert readme_row(studies[name], arm, label) in said
    assert walks.warmer("README", STEERED) in said
    cool = sums.matched("steered")["base"]
    assert cool.p_adjusted > 0.05, "not shown to be better"
    words = (
        "in sums the start, sampled cooler, is {:.1f} % right at as many different answers as the"
    )
    right = [100 * cool.difference.value_a, 100 * cool.difference.value_b]
    assert (words + " preset's high, which is {:.1f} %").format(*right) in said
    assert sums.one_policy() in said
    assert walks.one_policy(ONE_SIDED, STEERED) in said


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
    done, asked = len(read_records(whole)), sum(a.seeds for a in read_study(SMOLLM2).arms)
    assert (
        f"In SmolLM2 (unfinished: [{done} of {asked} records](smollm2.md)) it is {gap:.2f}"
        in overview
    )
    tries = [
        100 * mean(arm, "best of 8", mode)
        for arm, mode in (("opposed", "high"), ("opposed", "normal"), ("GRPO", "normal"))
    ]
    words = "right for {:.1f} % of its questions in high, for {:.1f} in normal, and for {:.1f} in"
    assert words.format(*tries) in overview
    far = [
        np.mean(
            [
                excess(record, prompt)
                for record in records
                if record.arm == "opposed" and record.splits
            ]
        )
        for prompt in ("high_rewritten", "high")
    ]
    assert (
        "a reworded one does not (beyond neutral prompts {:.2f} bits of {:.2f})".format(*far)
        in overview
    )
    for record in records:
        if record.arm == "Policy Split (code)":
            ends = [np.mean(record.log[f"entropy_bits/{mode}"][-2:]) for mode in MODES]
            assert abs(ends[1] - ends[0]) < 0.02


def test_what_is_said_of_the_model_that_keeps_its_language_holds(language):
    """In the overview, the guide and the README."""
    steered, right = "steered", [*language.right("steered"), language.right("GRPO")[0]]
    seeds = language.seeds(steered)
    assert language.seeds("GRPO") == seeds
    overview = text("docs/experiments/README.md").split("## How a study")[0]
    assert f"SmolLM2, {seeds} seeds, 120 steps on a CPU" in overview
    words = "{:.1f} % are right in normal, {:.1f} in high and {:.1f} in GRPO's model ({:.1f} and "
    words += "{:.1f} by seed), {:.2f} bits apart"
    seeds_of_plain = 100 * language.arms["GRPO"].values("accuracy", "normal").mean(axis=1)
    assert words.format(*right, *seeds_of_plain, language.gap(steered)) in overview
    normal, high = language.unique(steered)
    unique = (high, normal, language.unique("GRPO")[0])
    words = (
        "with {:.1f}, {:.1f} and {:.1f} different right answers of 16 in high, normal and GRPO's"
    )
    assert words.format(*unique) in overview
    assert language.late(steered, "eta/high") > 0.95 * 0.35, "η stood where it began"
    assert f"KL beyond placebos is {language.beyond(steered):.2f} bits: too little" in overview
    assert set(language.verdicts(steered)) == {"no"}
    third = language.arms[STEERED]
    beyond = [excess(record) for record in third.records]
    words = (
        "With a neutral mode it is {:.2f} bits ({:.2f} and {:.2f} by seed) and *split* in one seed"
    )
    assert words.format(np.mean(beyond), *beyond) in overview
    assert sorted(language.verdicts(STEERED)) == ["no", "yes"]
    assert f"In SmolLM2 {language.warmer('overview', steered)}; two seeds" in overview
    low = [language.far(arm, "low") for arm in (STEERED, steered)]
    words = "at a gap of {:.2f} bits, and KL(normal‖low) is {:.2f} bits in place of {:.2f}:"
    assert words.format(language.gap(STEERED), *low) in overview
    by_seed = 100 * third.values("accuracy", "normal").mean(axis=1)
    words = "{:.1f} % are right in normal and {:.1f} in high ({:.1f} and {:.1f} by seed in normal)"
    assert words.format(*language.right(STEERED), *by_seed) in overview
    creative = ("psplit_story", "psplit_uses", "psplit_solve")
    passing = [
        100 * language.told(task, arm, "passing", mode)
        for task in creative
        for arm, mode in (("base", "normal"), (steered, "normal"), (steered, "high"))
    ]
    words = "stories {:.0f} % pass the rules of quality, and {:.0f} and {:.0f} % after training in "
    words += "normal and high; of its uses {:.0f}, and {:.0f} and {:.0f}; of its solutions {:.0f}, "
    assert (words + "and {:.0f} and {:.0f}.").format(*passing) in overview
    gaps = [
        language.told(task, arm, "entropy", "high") - language.told(task, arm, "entropy", "normal")
        for arm in (steered, "GRPO")
        for task in creative
    ]
    words = "entropy is {:.2f}, {:.2f} and {:.2f} bits above normal's (GRPO's model under the same "
    words += "prompts: {:.2f}, {:.2f} and {:.2f})"
    assert words.format(*gaps).replace("-", "−") in overview
    assert all(found.p_adjusted > 0.5 for found in creative_comparisons(language.all))
    spread = [
        language.told("psplit_story", arm, "effective_dispersion", mode)
        for arm in (steered, "GRPO")
        for mode in ("high", "normal")
    ]
    words = "of stories {:.2f} in high and {:.2f} in normal; GRPO's {:.2f} and {:.2f}; two seeds"
    assert words.format(*spread) in overview
    guide = text("docs/training.md")
    assert f"learnt the form, {language.right('base')[0]:.0f} % of held-out answers right" in guide
    plain = "to {:.0f} % ({:.0f} and {:.0f})".format(right[2], *seeds_of_plain)
    assert f"{plain} | {language.came(steered)}" in guide
    assert language.came(STEERED) in guide
    beyond = [language.beyond(arm) for arm in (STEERED, steered)]
    assert "in language {:.2f} and {:.2f} (two seeds)".format(*beyond) in guide
    assert "(GRPO's: {:.1f} and {:.1f} %)".format(*seeds_of_plain) in text("README.md")


def test_what_the_overview_says_of_sums_holds(sums, walks):
    """Numbers to the digit that is written there."""
    said = text("docs/experiments/README.md").split("## How a study")[0]
    for arm in ("Policy Split (code)", "Policy Split (paper)"):
        assert abs(sums.gap(arm)) < 0.01
    arms = ("Policy Split (code)", "Policy Split η 0.1", "Policy Split η 0.3")
    assert all(abs(sums.gap(arm)) < 0.01 for arm in arms)
    lifted = [sums.mean(arm, "entropy", "normal") for arm in arms]
    assert "lift both alike, from {:.2f} to {:.2f} and {:.2f} bits".format(*lifted) in said
    assert f"(sums/published_by_eta.png), {sums.seeds(arms[1])} seeds each)" in said
    normal, high = sums.unique("opposed")
    assert f"{sums.gap('opposed'):.2f} bits apart, and high has {high:.1f} different right" in said
    assert f"mode has {normal:.1f} and GRPO's model {sums.unique('GRPO')[0]:.1f}" in said
    normal, high = sums.right("opposed")
    assert f"{high:.1f} % right to normal's {normal:.1f}" in said
    assert f"it stands {normal - sums.right('GRPO')[0]:.1f} points above GRPO" in said
    plain, opposed = sums.arms["GRPO"], sums.arms["opposed"]
    pair = (plain.values("accuracy", "normal"), opposed.values("accuracy", "normal"))
    found = crossed_difference(*pair)
    assert f"can tell no more than {50 * (found.ci_high - found.ci_low):.1f} points" in said
    both = [sums.mean("no opposite bonus", "entropy", mode) for mode in MODES]
    seeds = sums.seeds("no opposite bonus")
    assert "{:.2f} and {:.2f} bits ({} seeds)".format(*both, seeds) in said
    shown = []
    for metric, scale in (("accuracy", 100), ("unique", 1)):
        one = sums.arms["no opposite bonus"].values(metric, "normal")
        found = crossed_difference(opposed.values(metric, "high"), one)
        shown += [scale * x for x in (found.difference, found.ci_low, found.ci_high)]
    words = "({:+.1f} points [{:+.1f}, {:+.1f}]; {:+.1f} answers [{:+.1f}, {:+.1f}])"
    assert words.format(*shown) in said
    right, unique = sums.right("no opposite bonus")[0], sums.unique("no opposite bonus")[0]
    assert (
        f"*{ONE_SIDED}*, {walks.seeds(ONE_SIDED)} seeds, is {walks.one_policy(ONE_SIDED, STEERED)}"
        in said
    )
    words = f"*{STEERED}* is {walks.right(STEERED)[0]:.1f} % right in normal."
    assert "What a second mode adds is the first: " + words in said
    pair = (sums.right("opposed")[1], sums.unique("opposed")[1])
    words = "{:.1f} % right with {:.1f} different answers, where *opposed* has {:.1f} and {:.1f} in"
    assert words.format(right, unique, *pair) in said
    both = [sums.mean("η₂ 0.1", "entropy", mode) for mode in MODES]
    assert "leaves normal {:.2f} bits and high {:.2f}".format(*both) in said
    beyond, of = sums.beyond("opposed"), sums.late("opposed", "kl_bits/normal_high")
    assert f"its KL is {beyond:.2f} bits, of {of:.2f}" in said
    assert f"raises that to {sums.beyond('opposed + neutral'):.2f}" in said
    assert f"({sums.unique('opposed + neutral')[1]:.1f} different answers)" in said
    low = [sums.far("opposed", "low"), walks.far("steered", "low"), walks.far(STEERED, "low")]
    words = "KL(normal‖low) is {:.2f} bits in *opposed* and, on walks, {:.2f} in *steered*; with a "
    assert (words + "neutral mode it is {:.2f} there").format(*low) in said
    forking, plain = (sums.mean(arm, "entropy", "normal") for arm in ("forking tokens", "GRPO"))
    seeds = sums.seeds("Clip-Cov")
    assert f"GRPO ({forking:.2f} bits), the others about its {plain:.2f} ({seeds} seeds" in said
    for arm in ("Clip-Cov", "KL-Cov", "entropy-driven advantage", "entropy advantage"):
        assert abs(sums.mean(arm, "entropy", "normal") - plain) < 0.03
    clipped, penalised = (sums.arms[name].records for name in ("clip-higher", "KL-Cov"))
    for one, other in zip(clipped, penalised, strict=True):
        assert one.evaluations == other.evaluations


def test_what_the_overview_says_of_the_parts_of_opposed_holds(sums):
    said = text("docs/experiments/README.md").split("## How a study")[0]
    parts = ("no sharing", "no truncated weights", "clamp κ 2", "α 0.5", "α 0", "rarity", "η 0.5")
    seeds = {sums.seeds(arm) for arm in parts}
    assert seeds == {"three"}
    assert "(sums, three seeds each; each differs from *opposed* in one setting)" in said
    assert f"{sums.right('no truncated weights')[0]:.0f} % right in normal. With the clamp" in said
    assert f"(κ 2) the gap is {sums.gap('clamp κ 2'):.2f} bits" in said
    runs = [sums.late(arm, "kl_bits/high_normal") for arm in ("α 0.5", "α 0")]
    assert "runs to {:.1f} and {:.1f} bits, and the alarm rings in every seed".format(*runs) in said
    for arm in ("α 0.5", "α 0"):
        assert all(record.alarms for record in sums.arms[arm].records)
    normal, high = sums.right("no sharing")
    assert f"Without sharing high is {high:.1f} % right and normal {normal:.1f}" in said
    full, rare = sums.right("opposed")[1], sums.right("rarity")[1]
    assert f"a fifth of its right ones ({rare:.1f} %)" in said
    assert 1 / 6 < 1 - rare / full < 1 / 4
    assert f"η 0.5 costs {full - sums.right('η 0.5')[1]:.1f} points" in said


def test_what_the_overview_says_of_walks_and_steering_holds(sums, walks):
    said = text("docs/experiments/README.md").split("## How a study")[0]
    normal, high = walks.right("opposed")
    plain = walks.right("GRPO")[0]
    assert f"GRPO is {plain:.1f} % right" in said
    seeds = walks.seeds("opposed")
    assert f"high fell to {high:.0f} % and normal to {normal:.1f} ({seeds} seeds)" in said
    assert f"the third mode high fell to {walks.right('opposed + neutral')[1]:.0f}, and" in said
    mild = walks.right("milder")
    words = "{:.1f} % in normal and {:.1f} in high, {:.2f} bits apart"
    assert words.format(*mild, walks.gap("milder")) in said
    assert f"normal stands {plain - mild[0]:.1f} points below GRPO" in said
    assert f"in sums the modes part by {sums.gap('milder'):.2f} bits only" in said
    eta = walks.late("steered", "eta/high")
    assert f"η falls from 0.35 to {eta:.2f}, the modes stay {walks.gap('steered'):.2f} bits" in said
    assert "{:.1f} % right in normal and {:.1f} in high".format(*walks.right("steered")) in said
    right, (normal, high) = walks.right(STEERED), walks.unique(STEERED)
    words = f"On walks *{STEERED}* is {{:.1f}} and {{:.1f}} % right, {{:.2f}} bits apart"
    assert words.format(*right, walks.gap(STEERED)) in said
    assert (
        f"{high:.0f} different right answers in high, {normal:.0f} in normal and "
        f"{walks.unique('GRPO')[0]:.0f} in GRPO's model, and KL {walks.beyond(STEERED):.2f}"
    ) in said
    assert set(walks.verdicts(STEERED)) == {"yes"}
    rang = [
        sum(bool(r.alarms) for r in walks.arms[arm].records) for arm in ("steered", "GRPO", STEERED)
    ]
    assert rang == [4, 5, 0]
    said_by = [
        line for arm in ("steered", "GRPO") for r in walks.arms[arm].records for line in r.alarms
    ]
    assert all(": dead: " in line for line in said_by)
    right, (normal, high) = sums.right("steered"), sums.unique("steered")
    assert (
        "In sums *steered* is {:.1f} and {:.1f} % right, {:.2f} bits apart, with "
        "{:.1f} and {:.1f} different right answers ({} seeds)"
    ).format(*right, sums.gap("steered"), high, normal, sums.seeds("steered")) in said
    assert sums.late("steered", "eta/high") > 0.95 * 0.35, "nearly all of its training"
    right, (normal, high) = sums.right(STEERED), sums.unique(STEERED)
    words = (
        "In sums it is {:.1f} and {:.1f} % right, {:.2f} bits, {:.1f}, {:.1f} and {:.1f} different"
    )
    unique = (high, normal, sums.unique("GRPO")[0])
    assert words.format(*right, sums.gap(STEERED), *unique) in said
    yes = ("no", "one", "two", "three", "four", "five")[sums.verdicts(STEERED).count("yes")]
    assert f"right answers, KL {sums.beyond(STEERED):.2f}, *split* in {yes} seeds." in said
    before = sums.right("opposed + neutral")
    assert "*opposed + neutral* ({:.1f} and {:.1f} %) begin alike".format(*before) in said
    assert walks.warmer("overview", STEERED) in said
    assert sums.warmer("overview", "steered") in said
    best = 100 * walks.mean("GRPO", "best of 8", "normal")
    assert f"right for {best:.1f} % of the questions in GRPO's model, too" in said
    assert "differ within 150 steps, long before any bonus shrinks" in said
    pairs = zip(sums.arms["opposed + neutral"].records, sums.arms[STEERED].records, strict=True)
    for before, now in pairs:
        both = zip(before.log["entropy_bits/high"], now.log["entropy_bits/high"], strict=True)
        parts = next(i for i, (one, other) in enumerate(both) if one != other)
        shrinks = next(i for i, eta in enumerate(now.log["eta/high"]) if eta < 0.55)
        assert (parts + 1) * now.window <= 150 < 600 < shrinks * now.window


NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_what_is_said_of_things_wanted_holds(sums, walks):
    """As means, with that no alarm rang; beyond chance what has a p."""

    def held(study, arm=STEERED):
        found = [c for c in claims(study.study, study.all) if c.arm == arm]
        tested = [c for c in found if not np.isnan(c.p)]
        assert (len(found), len(tested)) == (9, 8)
        mean = sum(c.value > c.wanted or c.value == c.wanted == 1 for c in found)
        return NUMBERS[mean], NUMBERS[sum(c.answer == "yes" for c in tested)]

    (mean, sure), (mean_sums, sure_sums) = held(walks), held(sums)
    said = text("docs/experiments/README.md")
    words = (
        f"has, as means, {mean} on walks and {mean_sums} on sums. Beyond chance, corrected over "
    )
    words += f"all claims of a page, it has {sure} and {sure_sums}, of eight that have a p;"
    assert words in said
    mean, sure = held(sums, "steered")
    assert f"*steered* has, as means, {mean} on sums, {sure} of them beyond chance; what" in said


def test_what_the_guide_says_of_strength_holds(sums, walks):
    said = text("docs/training.md")
    for study in (sums, walks):
        for arm in ("opposed", "milder", "steered", STEERED):
            assert study.came(arm) in said
        assert f"| to {study.right('GRPO')[0]:.1f} % |" in said
    beyond = [walks.beyond(arm) for arm in (STEERED, "steered")]
    assert "is {:.2f} bits with it and {:.2f} without".format(*beyond) in said
    assert f"broke walks: {walks.right('opposed + neutral')[1]:.0f} % right in high" in said
    assert f"η fell from 0.35 to {walks.late('steered', 'eta/high'):.2f}" in said


def over_tasks():
    """The table of both tiny tasks, made from their records: percent right of both modes, their
    mean, different right answers of 32, entropy gap and KL beyond placebos in bits."""
    tasks = {name: Study(name).arms for name in ("sums", "walks")}

    def pair(values, digits):
        return " / ".join(f"{value:.{digits}f}" for value in values)

    def both(arm, metric, scale, digits):
        values = [
            [scale * task[arm].values(metric, mode).mean() for mode in MODES] if arm in task else []
            for task in tasks.values()
        ]
        return values, [pair(value, digits) if value else "" for value in values]

    for arm in (name for name in tasks["sums"] | tasks["walks"] if name in SHOWN):
        right, shown = both(arm, "accuracy", 100, 1)
        mean = pair(np.mean(right, axis=0), 1) if all(right) else ""
        unique = both(arm, "unique", 1, 1)[1]
        gaps = [
            f"{high - low:.2f}" if bits else ""
            for bits in both(arm, "entropy", 1, 3)[0]
            for low, high in [bits or (0, 0)]
        ]
        beyond = [
            f"{np.mean([excess(record) for record in task[arm].records]):.2f}"
            if arm in task
            else ""
            for task in tasks.values()
        ]
        yield [arm, *shown, mean, *unique, *gaps, *beyond]


SHOWN = ("base", "GRPO", "Policy Split (code)", "opposed", "opposed + neutral", "milder", "steered",
         "steered + neutral")  # fmt: skip


def test_the_table_of_both_tasks_is_that_of_their_records():
    said = (PAGES / "README.md").read_text().split("## Both tiny tasks")[1].split("\n## ")[0]
    for row in over_tasks():
        assert "| " + " | ".join(cell.replace("-0.00", "0.00") for cell in row) + " |" in said
