"""The gallery shows every committed picture, with the command that makes it and its numbers."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "figures"
PAGE = (FIGURES / "README.md").read_text()
PICTURES = sorted(FIGURES.rglob("*.png")) + sorted(FIGURES.rglob("*.svg"))


@pytest.fixture(scope="module")
def gallery():
    """benchmarks/ is no package."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "benchmarks" / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gallery"]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.relative_to(FIGURES).as_posix())
def test_every_picture_is_shown_with_its_numbers_and_its_other_form(path):
    assert f"]({path.relative_to(FIGURES).as_posix()})" in PAGE
    for suffix in (".png", ".svg", ".csv"):
        beside = path.with_suffix(suffix)
        assert beside.is_file()
        assert f"]({beside.relative_to(FIGURES).as_posix()})" in PAGE


def test_there_are_pictures_and_every_link_leads_somewhere():
    assert len(PICTURES) > 20
    for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", PAGE):
        assert (FIGURES / link).exists(), link


def test_every_picture_has_an_alternative_text_with_numbers():
    shown = re.findall(r"^!\[(.*)\]\((.*\.png)\)$", PAGE, re.MULTILINE)
    assert len(shown) == len(list(FIGURES.rglob("*.png")))
    assert all(re.search(r"\d", alt) and len(alt) < 700 for alt, _ in shown)


def test_the_commands_that_make_them_exist():
    commands = re.findall(r"^    (.+)$", PAGE, re.MULTILINE)
    assert commands == ["make figures", "python benchmarks/gallery.py runs/quick"]
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^figures: run\n\t.*benchmarks/gallery.py \$\(RUN_DIR\)$", makefile, re.M)


def test_pictures_of_committed_numbers_are_those_that_are_made_of_them(gallery, tmp_path):
    made = {
        "judges": gallery.judges(tmp_path / "judges"),
        "creative": gallery.creative(FIGURES / "creative", tmp_path / "creative"),
        "training": gallery.training(FIGURES / "training", tmp_path / "training"),
    }
    for folder, plots in made.items():
        assert plots
        for plot in plots:
            assert plot.csv.read_bytes() == (FIGURES / folder / plot.csv.name).read_bytes()
            for text in gallery._shown(folder, plot):
                assert f"\n{text}\n" in PAGE


def test_pictures_of_a_run_are_made_by_the_script(gallery, tmp_path):
    """The whole way, with a small run without a model in the place of the quick one."""
    from judgeable import make_run

    from psplit_eval.cli import main

    run = make_run(tmp_path / "run", scored=True)
    assert main(["report", str(run)]) == 0
    plots = gallery.quick(run, tmp_path / "quick")
    names = {path.name for path in (tmp_path / "quick").iterdir()}
    assert {f"{plot.name}.{suffix}" for plot in plots for suffix in ("png", "svg", "csv")} < names
    assert set(gallery.KEPT) < names
    text = gallery.page([gallery.Section("quick", plots)])
    assert all(f"](quick/{plot.name}.png)" in text for plot in plots)
