"""examples/ci: three forms of the same commands, which run; rules that are read; no secrets."""

import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise

import pytest
import yaml
from pages import ROOT, commands

from psplit_eval.cli import main
from psplit_eval.gate_files import GATE_FILES
from psplit_eval.gate_rules import Kind, read_rules

CI = ROOT / "examples" / "ci"
GIVEN = {"BASELINE": "path/to/baseline", "CANDIDATE": "path/to/candidate"}


def loaded(name):
    return yaml.safe_load((CI / name).read_text())


def steps():
    return loaded("github-actions.yml")["jobs"]["gate"]["steps"]


def scripts():
    """Every script of the workflow and of the job."""
    yield from (step["run"] for step in steps() if "run" in step)
    job = loaded("gitlab-ci.yml")["gate"]
    yield from (*job["before_script"], *job["script"])


def typed(script):
    """The psplit-eval commands of a script as words, variables in their place."""
    text = script.replace("\\\n", " ")
    for name, value in GIVEN.items():
        text = text.replace(f"${name}", value)
    lines = [shlex.split(line) for line in text.splitlines()]
    return [words for words in lines if words[:1] == ["psplit-eval"]]


README = [shlex.split(command) for command in commands(CI / "README.md")]


def test_the_page_has_the_three_commands():
    assert [words[1] for words in README] == ["run", "run", "gate"]


def test_the_workflow_and_the_job_type_them():
    runs = [step["run"] for step in steps() if "run" in step]
    assert [words for run in runs for words in typed(run)] == README
    job = loaded("gitlab-ci.yml")["gate"]["script"]
    assert [words for script in job for words in typed(script)] == README


def test_the_makefile_types_them(tmp_path):
    make = ["make", "-n", "-f", str(CI / "Makefile"), "gate"]
    said = subprocess.run(make, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert typed(said) == README
    other = [*make, "BASELINE=a b", "CANDIDATE=c"]
    said = subprocess.run(other, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert [words[3] for words in typed(said)[:2]] == ["a b", "c"]


@pytest.mark.parametrize("script", scripts())
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_actions_are_pinned_to_commits():
    text = (CI / "github-actions.yml").read_text()
    used = re.findall(r"uses: (.*)", text)
    assert len(used) >= 4
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)
    image = loaded("gitlab-ci.yml")["gate"]["image"]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-[\w-]+", image)


def test_nothing_from_outside_is_pasted_into_a_script():
    """A name such as `a; curl …` stays a name: scripts know it as a quoted variable alone."""
    for script in scripts():
        assert "${{" not in script
        for name in GIVEN:
            assert script.count(f"${name}") == script.count(f'"${name}"')


def test_there_are_no_secrets():
    for path in CI.iterdir():
        assert not re.search(
            r"secrets\.\w|(token|password|key)\s*[=:]\s*\w{12}", path.read_text(), re.I
        )
    assert loaded("github-actions.yml")["permissions"] == {"contents": "read"}


def test_the_workflow_keeps_what_it_found():
    last = steps()[-1]
    assert "gate/" in last["with"]["path"]
    assert "cancelled()" in last["if"]
    (cached,) = [step for step in steps() if "actions/cache@" in step.get("uses", "")]
    assert cached["with"]["path"] == README[0][-1] == "runs/baseline"
    job = loaded("gitlab-ci.yml")["gate"]
    assert job["artifacts"]["reports"]["junit"] == "gate/junit.xml"
    assert job["artifacts"]["when"] == "always"
    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["cache"][0]["paths"] == ["runs/baseline/"]


def test_the_rules_show_most_kinds():
    found = read_rules(CI / "gate.yaml")
    kinds = {rule.kind for rule in found.rules}
    assert kinds == {Kind.NON_INFERIOR, Kind.AT_MOST, Kind.EQUAL, Kind.SPLIT}
    assert all(rule.name != "" for rule in found.rules)


def test_the_rule_on_a_judge_can_be_taken_in(tmp_path):
    """What stands there as a comment."""
    head, comment = (CI / "gate.yaml").read_text().split("  # - name: Stories are as creative\n")
    rest = "".join(line.replace("  # ", "  ", 1) for line in comment.splitlines(keepends=True))
    path = tmp_path / "gate.yaml"
    path.write_text(f"{head}  - name: Stories are as creative\n{rest}")
    *_, rule = read_rules(path).rules
    assert (rule.judge, rule.dimension, rule.margin) == ("openai:MODEL", "creativity", 0.03)


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """Where CI works: rules, rows, and two checkpoints of which one is the other with noise."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("ci")
    shutil.copy(CI / "gate.yaml", folder)
    shutil.copytree(tiny, folder / GIVEN["BASELINE"])
    shutil.copytree(tiny, folder / GIVEN["CANDIDATE"])
    model = AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(2)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder / GIVEN["CANDIDATE"])
    rows = [{"question": f"{i} + 1?", "answer": f"{i + 1}"} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def small(words):
    """The same with few docs and short answers."""
    if words[0] != "run":
        return words
    words = ["2" if before == "--samples" else word for before, word in pairwise(["", *words])]
    short = ["--limit", "6", "--set", "max_tokens=8", "--data", "psplit_gsm8k=rows.jsonl"]
    return [*words, *short, "--encoder", "none", "--reference", "none"]


def test_they_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    *runs, gate = [small(words[1:]) for words in README]
    assert [main(words) for words in runs] == [0, 0]
    assert main(runs[0]) == 0
    assert "0 samples drawn" in capsys.readouterr().out  # what is kept is not sampled again
    code = main(gate)
    found = json.loads((place / "gate" / "gate.json").read_text())
    assert code == found["exit_code"]
    assert code in (1, 3)  # twelve answers of noise: nothing is shown to be kept
    assert {path.name for path in (place / "gate").iterdir()} == set(GATE_FILES)
    assert {check["rule"] for check in found["checks"]} == {
        rule.name for rule in read_rules(place / "gate.yaml").rules
    }
    summary(place)


def summary(place):
    """The workflow's own step."""
    (step,) = [step["run"] for step in steps() if step.get("name") == "Summary"]
    target = place / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(target), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-e", "-c", step], cwd=place, env=environment, check=True)
    assert target.read_text().startswith("# Gate: ")
