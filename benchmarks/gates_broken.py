"""Two checkpoints that a gate must stop: SmolLM2 with noise on its weights, and with a chat
template that lost its roles.

    python -m benchmarks.gates_broken        # about five minutes; then results/gates_broken.json

The baseline is SmolLM2 as it is. Each candidate is a folder that `transformers` wrote, evaluated by
`psplit-eval run` with another seed and gated by `psplit-eval gate`; so is SmolLM2 itself, which
must not fail. The noise is Gaussian, of a share of the standard deviation of each weight matrix.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

from psplit_eval.backends import EngineOptions
from psplit_eval.cli import main as psplit
from psplit_eval.engines import find_model

RESULTS = Path(__file__).parent / "results" / "gates_broken.json"
NOISE = 0.15
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
"""Without roles, turns, and the beginning of an answer."""
SETTINGS = ["--modes", "normal", "--tasks", "psplit_sums", "--limit", "160", "--samples", "4"]
RULES = """format: 1
rules:
  - {name: sums, task: psplit_sums, mode: normal, kind: non-inferior, margin: 0.1}
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rules = folder / "gate.yaml"
        rules.write_text(RULES)
        checkpoint = find_model("smollm2-135m", EngineOptions(), print).folder
        evaluated(checkpoint, folder / "baseline", 0)
        found = {}
        for name, made in (("same", same), ("noise", noisy), ("template", without_roles)):
            model = folder / name / "model"
            made(checkpoint, model)
            evaluated(model, folder / name / "run", 1)
            gated = ["gate", "--baseline", str(folder / "baseline"), "--rules", str(rules)]
            gated += ["--candidate", str(folder / name / "run")]
            found[name] = said(gated, folder)
            if name == "template":
                allowed = [*gated, "--allow-different", "prompts"]
                found["template, prompts allowed"] = said(allowed, folder)
    RESULTS.write_text(
        json.dumps({"share of noise": NOISE, "rules": RULES, **found}, indent=1) + "\n"
    )
    print(RESULTS.read_text())


def evaluated(model: Path, out: Path, seed: int) -> None:
    words = ["run", "--model", str(model), *SETTINGS, "--seed", str(seed), "--out", str(out)]
    with contextlib.redirect_stdout(io.StringIO()):
        assert psplit([*words, "--no-divergence"]) == 0


def said(words: list[str], folder: Path) -> dict[str, object]:
    """Exit code and words of a gate, without this machine's folders."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = psplit(words)
    text = (out.getvalue() + errors.getvalue()).replace(str(folder), "here")
    lines = text.replace(str(Path.home()), "~").strip().split("\n")
    return {"exit_code": code, "said": [line.rstrip() for line in lines]}


def same(checkpoint: Path, model: Path) -> None:
    shutil.copytree(checkpoint, model)


def noisy(checkpoint: Path, model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    same(checkpoint, model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    draws = torch.Generator().manual_seed(20260411)
    with torch.no_grad():
        for weight in loaded.parameters():
            if weight.ndim == 2:
                noise = torch.randn(weight.shape, generator=draws)
                weight += NOISE * weight.std() * noise
    loaded.save_pretrained(model)


def without_roles(checkpoint: Path, model: Path) -> None:
    from transformers import AutoTokenizer

    same(checkpoint, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(model)


if __name__ == "__main__":
    main()
