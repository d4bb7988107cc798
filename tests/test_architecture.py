"""Public names and the direction of imports (docs/architecture.md)."""

import ast
import gc
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module imports only modules that stand in an earlier row: data flows one way.
LAYERS = (
    ("errors",),
    (
        "checkers",
        "commandline",
        "database",
        "diversity",
        "files",
        "limits",
        "memory",
        "power",
        "resampling",
        "schema",
        "spread",
        "text",
        "thinking",
    ),
    (
        "accuracy",
        "association",
        "card_forms",
        "checkpoints",
        "equivalence",
        "labels",
        "logprobs",
        "ledger",
        "manifest",
        "modes",
        "originality",
        "placebos",
        "replies",
        "published",
        "quality",
        "richness",
        "semantic",
        "servers",
        "stats",
        "store",
        "suites",
        "surprise",
        "syntactic",
        "trees",
        "wordvectors",
        "yamlfile",
    ),
    (
        "adapters",
        "betting",
        "calibration",
        "captions",
        "cards",
        "catalog",
        "content",
        "doctor",
        "effects",
        "embedding",
        "figures",
        "findings",
        "glance",
        "logistic",
        "margins",
        "protocol",
        "ranks",
        "reliability",
        "requests",
        "scoring",
        "uses",
    ),
    (
        "decoding",
        "divergence",
        "export",
        "fencing",
        "frontier",
        "inventory",
        "kvcache",
        "lists",
        "lmtask",
        "pages",
        "preferences",
        "reference",
        "rows",
        "training_curves",
    ),
    (
        "agreement",
        "complementarity",
        "gate_rules",
        "goldset",
        "markers",
        "rubrics",
        "searching",
        "twosample",
        "worddiff",
    ),
    ("indexes", "judges", "overlap_plots", "probes", "textual"),
    ("audit_answers", "browsing", "contrasts", "prompts", "sampleset"),
    ("audit_attacks", "creativity", "view_frame", "workers"),
    ("audit_measures", "measures", "view_texts"),
    ("backends", "harness", "rescoring", "view_pages"),
    ("chat", "estimates", "templates", "viewing"),
    ("batch", "fleet", "given", "responses"),
    ("asker", "crossing", "inflight", "stock"),
    ("sampling", "arms", "cross_scoring", "hf", "served", "served_judge", "vllm_engine"),
    ("calibrating", "conditions"),
    ("choosing", "comparison", "engines", "inquiry", "judged", "local_judge"),
    ("asking",),
    ("beliefs", "hearing", "judging", "leaderboard", "plots", "tables", "verdicts"),
    ("audit", "conclusions", "judge_tables", "labelling"),
    ("behaviour", "comparable", "importing"),
    ("behaviour_plots", "behaviour_tables", "judge_plots"),
    ("excerpts", "results", "run_tables", "settings"),
    ("documents",),
    ("sections",),
    ("report",),
    ("paired_runs",),
    ("judged_arms", "stored"),
    ("diverging", "entrants", "gate"),
    ("board", "gate_files", "gate_power"),
    ("board_plots", "ranking"),
    ("board_pages",),
    ("merging", "planning", "run"),
    ("sequential",),
    ("cli_board", "cli_design"),
    ("cli_run",),
    ("cli_calibrate", "cli_judge", "cli_plan", "cli_stored"),
    ("cli_audit", "cli_gate"),
    ("cli",),
)

# The same of the trainer, which may import all of the evaluator.
TRAINER_LAYERS: tuple[tuple[str, ...], ...] = (
    ("config",),
    ("checks", "names"),
    (
        "advantages",
        "baselines",
        "checkpoints",
        "contamination",
        "estimates",
        "generation",
        "loading",
        "ordering",
        "processes",
        "scoring",
        "sharing",
        "stability",
        "system_role",
        "tasks",
        "tiny",
    ),
    ("cards", "data", "meters", "rewards", "seams", "turns", "weighing"),
    ("drawn", "keeping"),
    ("evaluate", "grpo", "trainer", "warmup"),
    ("rehearsal",),
    ("starting",),
    ("running",),
    ("sweep",),
    ("sweep_report",),
    ("cli",),
    ("__main__",),
)

STUDY_LAYERS: tuple[tuple[str, ...], ...] = (
    ("records",),
    ("study",),
    ("measuring",),
    ("analysis", "cell"),
    ("pictures",),
    ("page",),
    ("__main__",),
)


def imported(path: Path) -> set[str]:
    names = set()
    gc.disable()  # hypothesis watches the collector, and Python 3.11 trips over that while parsing
    try:
        tree = ast.parse(path.read_text())
    finally:
        gc.enable()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


ROWS = {"psplit_eval": LAYERS, "psplit_train": TRAINER_LAYERS, "experiments": STUDY_LAYERS}
ALL_MODULES = [path for package in ROWS for path in modules(package)]


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_imports_go_one_way(path):
    package = path.parent.name
    ranks = {name: row for row, names in enumerate(ROWS[package]) for name in names}
    ranks.setdefault("__init__", -1)
    assert path.stem in ranks, f"{path.stem} has no row in the layers of {package}"
    own = {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")}
    later = sorted(name for name in own & set(ranks) if ranks[name] >= ranks[path.stem])
    assert not later, f"{path.stem} imports {later}, which stand in the same row or a later one"


@pytest.mark.parametrize("path", modules("psplit_eval"), ids=lambda path: path.stem)
def test_the_evaluator_never_imports_the_trainer(path):
    assert not [name for name in imported(path) if name.startswith("psplit_train")]


@pytest.mark.parametrize(
    "path", [*modules("psplit_eval"), *modules("psplit_train")], ids=lambda path: path.stem
)
def test_no_package_imports_a_study(path):
    assert not [name for name in imported(path) if name.partition(".")[0] == "experiments"]


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_all_names_every_public_definition_and_nothing_else(path):
    if path.stem in ("__init__", "__main__"):
        pytest.skip("packages export through their modules")
    module = importlib.import_module(f"{path.parent.name}.{path.stem}")
    tree = ast.parse(path.read_text())
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    assert defined <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    assert list(module.__all__) == sorted(
        module.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)
    )
