"""The pages of the documentation, as tests read them."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
_FENCE = re.compile(r"^ *```.*?^ *```$", flags=re.MULTILINE | re.DOTALL)
_CONTINUED = re.compile(r" *\\\n *")


def commands(page):
    """Commands to type: lines of `psplit-eval` indented by four, without their comments."""
    return _typed("psplit-eval", page)


def training_commands(page):
    """The same of `psplit-train`."""
    return _typed("psplit-train", page)


def _typed(program, page):
    text = _CONTINUED.sub(" ", page.read_text(encoding="utf-8"))
    return re.findall(rf"^    ({program} .*?)(?:  +#.*)?$", text, flags=re.MULTILINE)


def links(page):
    """(file or '', anchor or '') of every link that leads to a place here."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.partition("#")[::2] for link in found if "://" not in link]


@cache
def anchors(page):
    """Of every heading what a link to it is called on GitHub."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    found: dict[str, int] = {}
    names = []
    for title in titles:
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = found.get(name, 0)
        found[name] = again + 1
        names.append(f"{name}-{again}" if again else name)
    return frozenset(names)


def section(page, title):
    """What stands below a heading, up to the next one of its level or above."""
    level, _, name = title.partition(" ")
    text = page.read_text(encoding="utf-8")
    parts = re.split(rf"^({re.escape(level)} {re.escape(name)})$", text, flags=re.MULTILINE)
    assert len(parts) == 3, f"{page.name}: {title!r} is there {len(parts) // 2} times"
    return re.split(rf"^#{{1,{len(level)}}} ", parts[2], flags=re.MULTILINE)[0]


def table(text):
    """The cells of the rows of all tables in a text, without their heads."""
    rows, before = [], ""
    for line in text.splitlines():
        if line.startswith("|") and before.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([cell.strip() for cell in cells])
        before = line
    return [row for row in rows if not set("".join(row)) <= {"-", " "}]


def named(cell):
    """What stands in back quotes."""
    return re.findall(r"`([^`]+)`", cell)
