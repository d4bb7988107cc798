"""What sampling costs: psplit against two lm_eval command lines that do the same work.

    python benchmarks/sampling.py            # all cells, then the table; done cells are kept
    python benchmarks/sampling.py table      # the table alone

The work: 16 stories' premises, 4 samples each, modes normal and high, temperature 1, no truncation,
float32, SmolLM2-135M; `short` with 48 new tokens, `long` with 256. Today that takes two lm_eval
runs, one without and one with the system instruction (batch size 16). Whole processes are
measured, start and model loading included, in processor seconds and in wall seconds. What counts
is a ratio within one run of this script. Beside it stands the share of the machine's own ceiling:
floating-point operations that the tokens need at least, over what matrix multiplication does here.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "sampling.csv"
PROMPTS, SAMPLES = 16, 4
TOKENS = {"short": 48, "long": 256}
THREADS = (1, 2)
WAYS = ("lm_eval", "psplit")
COLUMNS = ("case", "threads", "way", "tokens", "cpu_seconds", "wall_seconds", "ceiling_gflops")


def main() -> None:
    if sys.argv[1:] != ["table"]:
        for case, threads, way in cells():
            if not any(cell == (case, str(threads), way) for cell in done()):
                row = measured(case, threads, way)
                print(row, flush=True)
                keep(row)
    print(table(rows()))


def cells() -> Iterator[tuple[str, int, str]]:
    return ((case, threads, way) for threads in THREADS for case in TOKENS for way in WAYS)


def rows() -> list[dict[str, str]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def done() -> set[tuple[str, str, str]]:
    return {(row["case"], row["threads"], row["way"]) for row in rows()}


def keep(row: dict[str, Any]) -> None:
    new = not RESULTS.is_file()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def measured(case: str, threads: int, way: str) -> dict[str, Any]:
    """One cell: run the processes and count the tokens of what they wrote."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        commands = {"lm_eval": by_lm_eval, "psplit": by_psplit}[way](case, folder)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        for command in commands:
            subprocess.run(command, env=environment, check=True, capture_output=True)
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        tokens = {"lm_eval": tokens_of_lm_eval, "psplit": tokens_of_psplit}[way](folder)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "case": case,
        "threads": threads,
        "way": way,
        "tokens": tokens,
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "ceiling_gflops": round(ceiling(threads), 1),
    }


def checkpoint() -> Path:
    from psplit_eval.checkpoints import resolve_checkpoint

    return resolve_checkpoint("smollm2-135m").folder


def by_lm_eval(case: str, folder: Path) -> list[list[str]]:
    """Two command lines; the task is psplit's, with the repeats and settings of this benchmark."""
    from psplit_eval.modes import BUILTIN_MODES

    shutil.copytree(ROOT / "tasks", folder / "tasks")
    yaml = folder / "tasks" / "psplit_story.yaml"
    yaml.write_text(yaml.read_text().replace("repeats: 8", f"repeats: {SAMPLES}"))
    common = [
        *(str(Path(sys.executable).parent / "lm_eval"), "--model", "hf", "--device", "cpu"),
        *("--model_args", f"pretrained={checkpoint()},dtype=float32", "--batch_size", "16"),
        *("--include_path", str(folder / "tasks"), "--tasks", "psplit_story"),
        *("--limit", str(PROMPTS), "--apply_chat_template", "--log_samples"),
        *("--gen_kwargs", f"max_gen_toks={TOKENS[case]},temperature=1.0,top_k=0,do_sample=True"),
    ]
    high = BUILTIN_MODES["high"].system_prompt
    return [
        [*common, "--output_path", str(folder / "normal")],
        [*common, "--output_path", str(folder / "high"), "--system_instruction", str(high)],
    ]


def by_psplit(case: str, folder: Path) -> list[list[str]]:
    command = [sys.executable, "-m", "psplit_eval.cli", "run", "--model", "smollm2-135m"]
    work = ["--modes", "normal,high", "--tasks", "psplit_story", "--limit", str(PROMPTS)]
    settings = ["--samples", str(SAMPLES), "--set", f"max_tokens={TOKENS[case]}"]
    return [[*command, *work, *settings, "--out", str(folder / "run")]]


def tokens_of_lm_eval(folder: Path) -> int:
    """New tokens, the end token included where the text came before the limit."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint())
    texts = [
        text
        for path in folder.rglob("samples_*.jsonl")
        for line in path.read_text().splitlines()
        for text in json.loads(line)["resps"][0]
    ]
    assert len(texts) == 2 * PROMPTS * SAMPLES, len(texts)
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)


def tokens_of_psplit(folder: Path) -> int:
    return int(json.loads((folder / "run" / "manifest.json").read_text())["tokens"])


def ceiling(threads: int) -> float:
    """10^9 operations a processor second of float32 matrix products as in this model's step."""
    code = (
        "import time, torch\n"
        f"torch.set_num_threads({threads})\n"
        "pairs = [(torch.randn(64, k), torch.randn(n, k)) for k, n in "
        "((576, 1536), (1536, 576), (576, 576), (576, 49152))]\n"
        "def step():\n"
        "    for a, w in pairs: torch.nn.functional.linear(a, w)\n"
        "step()\n"
        "start, steps = time.process_time(), 0\n"
        "while time.process_time() - start < 5: step(); steps += 1\n"
        "work = sum(2 * a.numel() * w.shape[0] for a, w in pairs) * steps\n"
        "print(work / (time.process_time() - start) / 1e9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


PARAMETERS = 134.5e6


def table(found: list[dict[str, str]]) -> str:
    """Markdown; the ratio is lm_eval's processor seconds a token over psplit's."""
    lines = [
        "| case | threads | way | tokens | CPU s | wall s | tokens / CPU s | of ceiling | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    stock: dict[tuple[str, str], float] = {}
    for row in found:
        key, speed = (row["case"], row["threads"]), int(row["tokens"]) / float(row["cpu_seconds"])
        stock.setdefault(key, speed)
        share = 2 * PARAMETERS * speed / 1e9 / float(row["ceiling_gflops"])
        cells = (row["tokens"], row["cpu_seconds"], row["wall_seconds"], f"{speed:.0f}")
        ratio = f"{speed / stock[key]:.2f} ×"
        lines.append("| " + " | ".join([*key, row["way"], *cells, f"{share:.0%}", ratio]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
