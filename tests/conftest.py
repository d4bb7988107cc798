"""Where the tests find real data."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real_rows() -> Callable[[str], Iterator[dict[str, Any]]]:
    """Rows of a file of real data (PSPLIT_TEST_DATA); skips the test where it is absent."""
    folder = Path(os.environ.get("PSPLIT_TEST_DATA", ROOT.parent / "shared" / "data"))

    def rows(name: str) -> Iterator[dict[str, Any]]:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} under PSPLIT_TEST_DATA ({folder})")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    return rows
