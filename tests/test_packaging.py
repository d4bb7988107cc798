"""Tasks and judges are found in a wheel, in a wheel made from an sdist, in an editable install and
beside the source; and what the base install, without torch, is good for."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from psplit_eval.cli import main

ROOT = Path(__file__).parent.parent
ASK = (
    "from psplit_eval.catalog import Catalog; from psplit_eval.harness import load_task; "
    "from psplit_eval.suites import shipped_folder; assert shipped_folder('judges').is_dir(); "
    "source = Catalog().tasks['psplit_sums']; print(source.path, len(load_task(source).docs))"
)


def build(source, kind, out):
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = out.iterdir()
    return made


def found_from(folder):
    """Where a fresh Python that sees only `folder` finds the tasks, and how many docs it loads."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    path, docs = done.stdout.split()
    return Path(path), int(docs)


def unpacked(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    return folder


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", out / "made")) as archive:
        archive.extractall(out, filter="data")
    (source,) = out.glob("psplit-*")
    return source


def test_a_wheel_carries_its_tasks(tmp_path):
    folder = unpacked(build(ROOT, "wheel", tmp_path / "made"), tmp_path / "site")
    path, docs = found_from(folder)
    assert path.parent == folder / "psplit_eval" / "_shipped" / "tasks"
    assert docs == 64
    assert (folder / "psplit_eval" / "py.typed").is_file()
    judges = {path.name for path in path.parent.with_name("judges").rglob("*")}
    assert judges >= {path.name for path in (ROOT / "judges").rglob("*")} >= {"gold", "story.jsonl"}


def test_a_wheel_made_from_an_sdist_carries_them_too(sdist, tmp_path):
    folder = unpacked(build(sdist, "wheel", tmp_path / "made"), tmp_path / "site")
    assert found_from(folder)[0].is_relative_to(folder / "psplit_eval" / "_shipped")


def test_the_source_finds_the_folder_beside_it(sdist):
    assert found_from(sdist) == (sdist / "tasks" / "psplit_sums.yaml", 64)


def test_an_editable_install_finds_them_from_anywhere(tmp_path):
    facts = json.loads(metadata.distribution("psplit").read_text("direct_url.json") or "{}")
    if not facts.get("dir_info", {}).get("editable"):
        pytest.skip("psplit is not installed in editable form here")
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    path, docs = done.stdout.split()
    assert (Path(path), docs) == (ROOT / "tasks" / "psplit_sums.yaml", "64")


def test_the_extras_are_those_that_the_docs_name():
    extras = set(metadata.distribution("psplit").metadata.get_all("Provides-Extra"))
    assert extras == {"hf", "vllm", "train", "semantic", "dev"}
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert all(f"`{extra}`" in page for extra in extras)


@pytest.mark.slow
def test_the_base_install_works_without_torch(tiny, tmp_path):
    """In an environment of its own: reports, comparisons, exports and lists need no torch."""
    command = ["run", "--model", str(tiny), "--modes", "normal,high", "--tasks", "psplit_sums"]
    small = ["--limit", "6", "--set", "max_tokens=6", "--out", str(tmp_path / "a")]
    assert main([*command, *small]) == 0
    wheel = build(ROOT, "wheel", tmp_path / "made")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "base"], check=True)
    binaries = tmp_path / "base" / "bin"
    pip = [binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(pip, check=True, cwd=tmp_path)

    def psplit(*words):
        return subprocess.run(
            [binaries / "psplit-eval", *words], cwd=tmp_path, capture_output=True, text=True
        )

    for words in (
        ("score", "a"),
        ("report", "a"),
        ("compare", "a", "a"),
        ("export", "a", "--out", "a.parquet"),
        ("runs", "list", "."),
        ("runs", "describe", "a"),
        ("doctor",),
        ("tasks",),
        ("completion", "bash"),
    ):
        done = psplit(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert "pip install '.[hf]'" in psplit("doctor").stdout
    refused = psplit("run", "--model", str(tiny), "--out", "b")
    assert refused.returncode == 2
    assert "pip install '.[hf]'" in refused.stderr
