"""What scoring under other prompts costs: against sampling, and against plain forward passes.

    python benchmarks/cross_scoring.py               # what lacks for this machine, then the table
    python benchmarks/cross_scoring.py table         # the table alone
    python benchmarks/cross_scoring.py limit=4       # 4 docs a task, as a trial: nothing is kept

The work: the samples of `psplit-eval run --suite quick` (SmolLM2-135M, modes normal and high) are
scored under both modes, then the normal ones under three placebos too. Four processes, each of
which loads the model before any clock starts: sampling; the modes; the modes and the placebos; and
what is done today, one forward pass for every sample and prompt, 16 at a time and filled up on the
right, with KL and entropy over the whole vocabulary. The last is timed on every eighth sample and
scaled by the samples. All write to the store as a user's run does, but for the last, which keeps
nothing.

Beside the seconds stands a floor: floating-point operations that the distinct contexts need at
least (2 × parameters, once a context and prompt; the prompts themselves, attention and the
divergences are not counted) over what matrix products do on this machine, measured by products of
the model's own shapes, right after the work. Set OMP_NUM_THREADS for the threads.
"""

from __future__ import annotations

import csv
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = Path(__file__).parent / "results" / "cross_scoring.csv"
MODEL, PLACEBOS, EVERY, ROWS = "smollm2-135m", 3, 8, 16
WAYS = ("sampling", "modes", "modes and placebos", "plain passes")
COLUMNS = (
    *(
        "machine",
        "device",
        "dtype",
        "threads",
        "samples",
        "tokens",
        "sampling_wall",
        "sampling_cpu",
    ),
    *("modes_wall", "modes_cpu", "modes_contexts", "all_wall", "all_cpu", "all_contexts"),
    *("plain_wall", "plain_cpu", "plain_samples", "ceiling_gflops", "parameters"),
)


def main() -> None:
    given = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    if "one" in given:
        print(json.dumps(measured(given["one"], Path(given["folder"]), int(given["limit"]))))
        return
    limit = int(given.get("limit", 0))
    known = rows()
    if sys.argv[1:] != ["table"] and (limit or here() not in map(machine_of, known)):
        known.append(row := row_of(limit))
        if not limit:
            keep(row)
    print(table(known))


def here() -> tuple[str, ...]:
    """This machine, as a row names it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name(0) if device == "cuda" else processor()
    return name, device, str(torch.get_num_threads())


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine_of(row: dict[str, Any]) -> tuple[str, ...]:
    return row["machine"], row["device"], str(row["threads"])


def rows() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def keep(row: dict[str, Any]) -> None:
    new = not RESULTS.is_file()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def row_of(limit: int) -> dict[str, Any]:
    """Every way once, in a process of its own; what is done is kept until all are."""
    scratch = Path(tempfile.gettempdir()) / f"psplit-cross-scoring-{here()[2]}-{limit}"
    scratch.mkdir(exist_ok=True)
    found = {way: once(way, scratch, limit) for way in WAYS}
    shutil.rmtree(scratch)
    drawn, modes, every, plain = (found[way] for way in WAYS)
    machine, device, threads = here()
    return {
        "machine": machine,
        "device": device,
        "dtype": drawn["dtype"],
        "threads": threads,
        "samples": drawn["samples"],
        "tokens": drawn["tokens"],
        **timed("sampling", drawn),
        **timed("modes", modes),
        "modes_contexts": modes["contexts"],
        **timed("all", every),
        "all_contexts": every["contexts"],
        **timed("plain", plain),
        "plain_samples": plain["samples"],
        "ceiling_gflops": round(modes["ceiling"], 1),
        "parameters": drawn["parameters"],
    }


def timed(name: str, found: dict[str, Any]) -> dict[str, float]:
    return {f"{name}_wall": round(found["wall"], 2), f"{name}_cpu": round(found["cpu"], 2)}


def once(way: str, scratch: Path, limit: int) -> dict[str, Any]:
    """Measure in a new process, unless that is done: a killed benchmark goes on."""
    path = scratch / f"{way}.json"
    if not path.is_file():
        words = [f"one={way}", f"folder={scratch}", f"limit={limit}"]
        command = [sys.executable, str(Path(__file__)), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        path.write_text(done.stdout.splitlines()[-1])
    found: dict[str, Any] = json.loads(path.read_text())
    print(way, found, flush=True)
    return found


def measured(way: str, folder: Path, limit: int) -> dict[str, Any]:
    """One way: the clocks, and what is known of the work."""
    from psplit_eval.checkpoints import resolve_checkpoint
    from psplit_eval.hf import HFBackend
    from psplit_eval.store import Store

    backend = HFBackend(resolve_checkpoint(MODEL))
    work = {"sampling": sampled, "plain passes": plain_passes}.get(way, scored)
    placebos = PLACEBOS if way == WAYS[2] else 0
    path = folder / "samples.sqlite"
    if way == "sampling":
        path.unlink(missing_ok=True)  # left by a process that was killed
    with Store(path) as store:
        found = work(backend, store, limit if way == "sampling" else placebos)
    known = {"dtype": backend.describe()["dtype"], "parameters": backend.describe()["parameters"]}
    return found | known | {"ceiling": ceiling(backend)}


class Clock:
    """Wall seconds and processor seconds of a block."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        self.seconds = {"wall": wall, "cpu": cpu}


def sampled(backend: Any, store: Any, limit: int) -> dict[str, Any]:
    """Draw the quick suite's samples; the clocks run while the run command's would."""
    from psplit_eval.choosing import chosen_tasks
    from psplit_eval.harness import load_task
    from psplit_eval.run import RunOptions
    from psplit_eval.sampling import fill, plan
    from psplit_eval.suites import TaskSettings

    chosen, _ = chosen_tasks(RunOptions(MODEL, ["normal", "high"], suite="quick"))
    tasks = [(load_task(source), settings) for source, settings in chosen]
    if limit:
        tasks = [(task, settings.updated(TaskSettings(limit=limit))) for task, settings in tasks]
    planned = plan(backend, both_modes(), tasks, 0)
    store.add_plan(planned.prompts, (doc for task, _ in tasks for doc in task.docs))
    with Clock() as clock:
        tally = fill(store, backend, backend.groups(planned.requests), lambda tokens, samples: None)
    assert not tally.failed, tally
    return {"samples": tally.samples, "tokens": tally.tokens, **clock.seconds}


def both_modes() -> list[Any]:
    from psplit_eval.modes import BUILTIN_MODES

    return [BUILTIN_MODES[name] for name in ("normal", "high")]


def scored(backend: Any, store: Any, placebos: int) -> dict[str, Any]:
    """Score all samples anew; how many contexts were run, once for every prompt."""
    from psplit_eval.cross_scoring import Policies, Policy, cross_score, lacking
    from psplit_eval.placebos import placebo_prompts

    modes = both_modes()
    length = len(backend.encode(modes[1].system_prompt))
    texts = placebo_prompts(length, lambda text: len(backend.encode(text)), placebos)
    neutral = [Policy(f"placebo_{i}", text, placebo=True) for i, text in enumerate(texts, 1)]
    policies = Policies(modes, [], neutral, "normal")
    for policy in policies.every:
        store.forget_policy(policy.name)
    tasks = sorted({task for _, task in store.counts()})
    names = [policy.name for policy in neutral]
    with Clock() as clock:
        work = lacking(store, policies, tasks, backend)
        added = cross_score(store, backend, work, names, lambda tokens, samples: None)
    runs = len(modes) * contexts(store, ["normal", "high"])
    if placebos:
        runs += (1 + placebos) * contexts(store, ["normal"])
    return {"rows": added, "contexts": runs, **clock.seconds}


def contexts(store: Any, modes: list[str]) -> int:
    """Distinct contexts of the responses to every doc in these modes."""
    from psplit_eval.trees import PrefixTree

    docs: dict[tuple[str, int], list[tuple[int, ...]]] = defaultdict(list)
    for mode in modes:
        for sample in store.samples(mode=mode):
            docs[sample.task, sample.doc_id].append(sample.completion_ids)
    return sum(len(PrefixTree.of(responses)) for responses in docs.values())


def plain_passes(backend: Any, store: Any, _: int) -> dict[str, Any]:
    """Every eighth sample under both modes; the clocks are scaled to all samples."""
    every = list(store.samples())
    some = every[::EVERY]
    prompts = prompts_of_docs(store)
    with Clock() as clock:
        for start in range(0, len(some), ROWS):
            batch = some[start : start + ROWS]
            pair = [
                [(prompts[s.task, s.doc_id][mode], s.completion_ids) for s in batch]
                for mode in ("normal", "high")
            ]
            divergences(*(list(response_logits(backend, rows)) for rows in pair))
    scale = len(every) / len(some)
    seconds = {name: value * scale for name, value in clock.seconds.items()}
    return {"samples": len(some), **seconds}


def prompts_of_docs(store: Any) -> dict[tuple[str, int], dict[str, tuple[int, ...]]]:
    ids = {(prompt.prompt_hash, prompt.mode): prompt.token_ids for prompt in store.prompts()}
    found: dict[tuple[str, int], dict[str, tuple[int, ...]]] = defaultdict(dict)
    for sample in store.samples(ids=False):
        key = sample.task, sample.doc_id
        found[key][sample.mode] = ids[sample.prompt_hash, sample.mode]
    return found


def response_logits(backend: Any, rows: list[tuple[Any, Any]]) -> Iterator[Any]:
    """Of every row (prompt, response) the logits of its response: (tokens, vocabulary)."""
    import torch

    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        ids[i, :length], mask[i, :length] = torch.tensor([*prompt, *response]), 1
    ids, mask = ids.to(backend.device), mask.to(backend.device)
    with torch.inference_mode():
        logits = backend.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for i, (prompt, response) in enumerate(rows):
        yield logits[i, len(prompt) - 1 : len(prompt) + len(response) - 1]


def divergences(one: list[Any], other: list[Any]) -> list[Any]:
    """Sums of KL and of the first one's entropy, by sample."""
    import torch

    found = []
    for pair in zip(one, other, strict=True):
        a, b = (torch.log_softmax(logits.float(), dim=-1) for logits in pair)
        found.append((float((a.exp() * (a - b)).sum()), float(-(a.exp() * a).sum())))
    return found


def ceiling(backend: Any) -> float:
    """10^9 operations a wall second of matrix products as in this model: 512 contexts at once."""
    import torch

    shapes = ((576, 1536), (1536, 576), (576, 576), (576, 49152))
    settings = {"dtype": backend.model.dtype, "device": backend.device}
    pairs = [(torch.randn(512, k, **settings), torch.randn(n, k, **settings)) for k, n in shapes]

    def step() -> float:
        start = time.monotonic()
        for a, w in pairs:
            last = torch.nn.functional.linear(a, w)
        float(last[0, 0])  # waits for an accelerator
        return time.monotonic() - start

    work = sum(2 * a.numel() * w.shape[0] for a, w in pairs)
    began, best = time.monotonic(), step()
    while time.monotonic() - began < 5:
        best = min(best, step())
    return work / best / 1e9


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; wall seconds over sampling's, and the floor's over wall seconds."""
    lines = [
        "| machine | threads | dtype | way | contexts | wall s | CPU s | of sampling | floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        machine = f"{row['machine']} | {row['threads']} | {row['dtype']}"
        for way, name in zip(WAYS, ("sampling", "modes", "all", "plain"), strict=True):
            wall, cpu = float(row[f"{name}_wall"]), float(row[f"{name}_cpu"])
            runs = float(row.get(f"{name}_contexts") or 0)
            work = 2e-9 * float(row["parameters"]) * runs
            floor = f"{work / float(row['ceiling_gflops']) / wall:.0%}" if runs else ""
            share = f"{wall / float(row['sampling_wall']):.0%}"
            cells = (f"{runs:.0f}" if runs else "", f"{wall:.1f}", f"{cpu:.1f}", share, floor)
            lines.append(f"| {machine} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
