"""The page says what was found of recorded judges."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_results():
    path = ROOT / "benchmarks" / "judges_tables.py"
    spec = importlib.util.spec_from_file_location("judges_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.read()
    page = (ROOT / "docs" / "judges_evidence.md").read_text()
    for make in (module.pairs, module.stories, module.experts):
        assert "\n".join(make(found)) in page
