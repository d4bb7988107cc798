"""Pages lead to each other, and what is made of the code is up to date."""

import importlib.util
import os
import re
import subprocess

import pytest
from pages import DOCS, PAGES, ROOT, anchors, links, named, section, table

from psplit_eval import cli as evaluating
from psplit_eval.errors import InfrastructureError, UsageError
from psplit_train import cli as training

COMMANDS = DOCS / "reference" / "commands.md"


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for file, anchor in links(page):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        if anchor:
            assert anchor in anchors(target), f"{file}#{anchor}"


def test_the_index_has_every_page():
    listed = {(DOCS / file).resolve() for file, _ in links(DOCS / "README.md") if file}
    assert {page for page in PAGES if DOCS in page.parents} - {DOCS / "README.md"} <= listed


def test_the_readme_leads_to_the_index():
    assert ("docs/README.md", "") in links(ROOT / "README.md")


def test_every_page_has_one_title():
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1, page


def built(script):
    spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


@pytest.mark.parametrize(
    ("page", "script"),
    [("commands", "build_commands"), ("training", "build_training")],
)
def test_a_reference_that_is_made_is_up_to_date(page, script):
    text = (DOCS / "reference" / f"{page}.md").read_text()
    assert text == built(script), f"make it again: python docs/{script}.py"


@pytest.mark.parametrize(("program", "titled"), [(evaluating, ""), (training, "psplit-train ")])
def test_every_command_and_option_stands_there(program, titled):
    """What argparse says, without the page's own way to find it."""
    text = COMMANDS.read_text()
    said = program.command_parser().format_help()
    commands = re.findall(r"^    (\w+) ", said, flags=re.MULTILINE)
    assert commands
    for line in commands:
        assert f"\n## `{titled}{line}`\n" in text
        shown = section(COMMANDS, f"## `{titled}{line}`")
        for option in re.findall(r"^  (--[a-z-]+)", help_of(program, line), flags=re.MULTILINE):
            assert f"`{option}" in shown or option == "--help"


def help_of(program, command):
    return subprocess.run(
        ["python", "-m", program.__name__, command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout


def test_exit_codes_are_those_of_the_errors():
    codes = [row[0] for row in table(section(COMMANDS, "## Exit codes"))]
    assert codes == [
        "0",
        "1",
        str(UsageError.exit_code),
        "3",
        str(InfrastructureError.exit_code),
        "130",
        "141",
    ]


def test_every_environment_variable_that_is_read_stands_there():
    sources = "".join(path.read_text() for path in ROOT.glob("psplit_*/*.py"))
    read = set(re.findall(r"environ(?:\.get\(|\.setdefault\(|\[)\s*\"(\w+)\"", sources))
    assert read >= {"OPENAI_API_KEY", "PSPLIT_CACHE", "WORLD_SIZE"}
    rows = table(section(COMMANDS, "## Environment variables"))
    assert read <= {variable for row in rows for variable in named(row[0])}


def test_variables_of_make_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    words = named(section(COMMANDS, "## Environment variables").splitlines()[-2])
    for variable in [word for word in words if word.isupper() or "_" in word]:
        assert re.search(rf"^{variable} (\?|:)?= ", makefile, flags=re.MULTILINE), variable
