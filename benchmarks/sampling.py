"""Sampling speed against lm-eval's own model on the same work: `python benchmarks/sampling.py`.

Two modes, 16 prompts, 4 samples each, at most 48 tokens, temperature 1, float32, one thread; the
model is loaded beforehand in both cases. What counts is the ratio of processor seconds within one
run, so a busy machine does not matter much.
"""

import json
import time
from collections.abc import Callable

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from psplit_eval.backends import HFBackend
from psplit_eval.catalog import Catalog
from psplit_eval.checkpoints import resolve_checkpoint
from psplit_eval.harness import load_task
from psplit_eval.modes import BUILTIN_MODES
from psplit_eval.requests import Request
from psplit_eval.sampling import plan
from psplit_eval.suites import TaskSettings

PROMPTS, SAMPLES, TOKENS, ROWS = 16, 4, 48, 64


def timed(work: Callable[[], int]) -> dict[str, float]:
    wall, cpu = time.monotonic(), time.process_time()
    tokens = work()
    seconds = time.process_time() - cpu
    return {
        "tokens": tokens,
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "tokens_per_cpu_second": round(tokens / seconds, 1),
    }


def ours(backend: HFBackend, requests: tuple[Request, ...]) -> int:
    groups = [requests[start : start + ROWS] for start in range(0, len(requests), ROWS)]
    done = [backend.complete(group, lambda tokens, rows: None) for group in groups]
    return sum(len(completion.ids) for group in done for completion in group)


def stock(model: HFLM, requests: tuple[Request, ...], texts: dict[str, str]) -> int:
    settings = {"until": [], "max_gen_toks": TOKENS, "do_sample": True, "top_k": 0}
    instances = [
        Instance("generate_until", {}, (texts[r.prompt_hash], settings | {"temperature": 1.0}), i)
        for i, r in enumerate(requests)
    ]
    answers = model.generate_until(instances, disable_tqdm=True)
    lengths = [len(model.tok_encode(answer, add_special_tokens=False)) for answer in answers]
    return sum(min(length + 1, TOKENS) for length in lengths)  # + 1: the end token is not in text


def main() -> None:
    torch.set_num_threads(1)
    checkpoint = resolve_checkpoint("smollm2-135m", print)
    backend = HFBackend(checkpoint, device="cpu", dtype="float32")
    task = load_task(Catalog().tasks["psplit_story"])
    settings = TaskSettings(limit=PROMPTS, samples=SAMPLES, sampling={"max_tokens": TOKENS})
    modes = [BUILTIN_MODES["normal"], BUILTIN_MODES["high"]]
    whole = plan(backend, modes, [(task, settings)], 0)
    texts = {prompt.prompt_hash: prompt.text for prompt in whole.prompts}
    results = {"psplit": timed(lambda: ours(backend, whole.requests))}
    for rows in (16, 64):
        model = HFLM(
            pretrained=str(checkpoint.folder), device="cpu", dtype="float32", batch_size=rows
        )
        results[f"lm-eval, batch {rows}"] = timed(lambda m=model: stock(m, whole.requests, texts))
        del model
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
