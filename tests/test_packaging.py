"""Tasks are found in a wheel, in a wheel made from an sdist, and beside the source."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ASK = (
    "from psplit_eval.catalog import Catalog; from psplit_eval.harness import load_task; "
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


def test_a_wheel_made_from_an_sdist_carries_them_too(sdist, tmp_path):
    folder = unpacked(build(sdist, "wheel", tmp_path / "made"), tmp_path / "site")
    assert found_from(folder)[0].is_relative_to(folder / "psplit_eval" / "_shipped")


def test_the_source_finds_the_folder_beside_it(sdist):
    assert found_from(sdist) == (sdist / "tasks" / "psplit_sums.yaml", 64)
