"""What a training step costs: Policy Split against TRL's GRPO at the same number of rollouts.

    python benchmarks/train_step.py              # all cells, then the table; done cells are kept
    python benchmarks/train_step.py small 75     # one cell again: a model, a system prompt's tokens
    python benchmarks/train_step.py table        # the table alone

GRPO is trl.GRPOTrainer itself, asked without a system prompt. Both draw the same number of
responses of 64 tokens, no response ends before (the end of sequence is a token that the model does
not have), and train with the same number of rows per micro-batch; one of ours holds each response
twice. Trainers of both kinds take turns, several times, on one thread; of each the step with the
fewest processor seconds counts. Its phases exclude each other. Memory is measured in a process of
its own: the largest sum of what torch holds, weights included, by its profiler.

With g the share of generation in GRPO's step the floor is 2 - g: every response is trained under
two prompts. Where prefixes are not shared the system prompt's tokens are run for every row, and
are added at GRPO's seconds a token of an update, and at a third of that (forward passes only) for
generation.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "train_step.csv"
TOKENS = 64
SYSTEM_TOKENS = (1, 75)
WAYS = ("grpo", "policy_split", "policy_split_unshared")
PHASES = ("generation", "rewards", "scoring", "update", "rest")
COLUMNS = (
    *("model", "parameters", "system_tokens", "way", "responses", "rows", "prompt_tokens"),
    *("generated_positions", "trained_positions", "steps"),
    *(f"{phase}_seconds" for phase in PHASES),
    *("step_seconds", "wall_seconds", "load", "peak_mb", "resident_mb"),
)


@dataclass(frozen=True)
class Size:
    """A model, and how much it is given: queries × group responses, in micro-batches of `rows`."""

    queries: int
    group: int
    rows: int
    rounds: int
    steps: int
    width: int = 0
    layers: int = 0
    heads: int = 0
    letters: int = 0


SIZES = {
    "tiny": Size(4, 16, 32, rounds=5, steps=6, width=32, layers=2, heads=4),
    "tiny, few rollouts": Size(2, 8, 16, rounds=5, steps=8, width=32, layers=2, heads=4),
    "small": Size(4, 16, 32, rounds=2, steps=3, width=384, layers=4, heads=6, letters=4000),
    "smollm2-135m": Size(2, 4, 8, rounds=2, steps=2),
}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["one"]:
        name, tokens, work = words[1], int(words[2]), words[3]
        found = timed(name, tokens) if work == "time" else memory(name, tokens, work)
        print(json.dumps(found))
        return
    if words != ["table"]:
        for name, tokens in [(words[0], int(words[1]))] if words else missing():
            keep(cell(name, tokens))
    print(table(rows()))


def missing() -> Iterator[tuple[str, int]]:
    known = {(row["model"], row["system_tokens"]) for row in rows()}
    every = ((name, tokens) for name in SIZES for tokens in SYSTEM_TOKENS)
    return (cell for cell in every if (cell[0], str(cell[1])) not in known)


def rows() -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def keep(new: list[dict[str, Any]]) -> None:
    """Put a cell's rows in the place of those that were known."""
    cells = {(row["model"], str(row["system_tokens"])) for row in new}
    known = [row for row in rows() if (row["model"], row["system_tokens"]) not in cells]
    names = list(SIZES)
    known = sorted(
        [*known, *new],
        key=lambda row: (
            names.index(row["model"]),
            int(row["system_tokens"]),
            WAYS.index(row["way"]),
        ),
    )
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(known)


def cell(name: str, tokens: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = alone(name, tokens, "time")
    for row in found:
        row |= alone(name, tokens, row["way"])
        print(row, flush=True)
    return found


def alone(name: str, tokens: int, work: str) -> Any:
    """In a new process, on one thread."""
    command = [sys.executable, str(Path(__file__)), "one", name, str(tokens), work]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=ROOT
    )
    return json.loads(done.stdout.splitlines()[-1])


# One process


class Clock:
    """Processor seconds by phase; inside a phase another one takes over. And tokens by phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.positions: Counter[str] = Counter()
        self._open = ["rest"]
        self._since, self._started = time.process_time(), time.monotonic()

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def count(self, module: Any, args: Any, kwargs: Any) -> None:
        """A forward pass of the backbone."""
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        self.positions[self._open[-1]] += ids.numel()

    def read(self) -> dict[str, Any]:
        """Of the step that ends now."""
        self._turn()
        seconds = {f"{phase}_seconds": self.seconds[phase] for phase in PHASES}
        found = seconds | {
            "step_seconds": sum(seconds.values()),
            "wall_seconds": time.monotonic() - self._started,
            "generated_positions": self.positions["generation"],
            "trained_positions": self.positions["update"] + self.positions["scoring"],
        }
        self.seconds.clear()
        self.positions.clear()
        self._started = time.monotonic()
        return found


def watched(kind: Any, clock: Clock) -> Any:
    """A trainer whose phases this clock sees."""
    phases = {
        "_generate_single_turn": "generation",
        "_calculate_rewards": "rewards",
        "_generate_and_score_completions": "scoring",
        "training_step": "update",
    }

    def method(name: str, phase: str) -> Any:
        def run(self: Any, *args: Any, **settings: Any) -> Any:
            with clock.phase(phase):
                return getattr(kind, name)(self, *args, **settings)

        return run

    return type(kind.__name__, (kind,), {name: method(name, p) for name, p in phases.items()})


def timed(name: str, system: int) -> list[dict[str, Any]]:
    """The best step of every way; trainers take turns."""
    size, ways = SIZES[name], ways_of(name, system)
    steps: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        known: dict[str, dict[str, Any]] = {}
        for _ in range(size.rounds):
            for way in ways:
                found, known[way] = run(name, system, way, Path(folder), size.steps)
                steps[way] += found[1:]  # the first one makes the optimizer's state
    best = {way: min(steps[way], key=lambda step: float(step["step_seconds"])) for way in ways}
    load = round(os.getloadavg()[1], 1)
    return [
        known[way]
        | {"steps": len(steps[way]), "load": load}
        | {key: round(value, 5) for key, value in best[way].items()}
        for way in ways
    ]


def ways_of(name: str, system: int) -> tuple[str, ...]:
    """Prompts of their own for every row matter where they are long."""
    return WAYS if system > 1 and SIZES[name].width else WAYS[:2]


def memory(name: str, system: int, way: str) -> dict[str, Any]:
    """10^6 bytes: the most that torch held, by its profiler; the most that was resident."""
    import resource

    import torch
    from torch.profiler import ProfilerActivity, profile

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(name, system, way, Path(folder), 2)
        held = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            trainer.train()
    most = now = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            now += event.nbytes()
            most = max(most, now)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"peak_mb": round((held + most) / 1e6, 1), "resident_mb": round(resident)}


def run(
    name: str, system: int, way: str, folder: Path, steps: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train: what every step took, and what is known of the work."""
    from transformers import TrainerCallback

    clock = Clock()
    trainer = trainer_of(name, system, way, folder, steps, clock)
    found: list[dict[str, Any]] = []

    class Reader(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            found.append(clock.read())

    trainer.add_callback(Reader())
    trainer.model.base_model.register_forward_pre_hook(clock.count, with_kwargs=True)
    trainer.train()
    size = SIZES[name]
    known = {
        "model": name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "system_tokens": system,
        "way": way,
        "responses": size.queries * size.group,
        "rows": size.rows,
        "prompt_tokens": len(tokenised(trainer.processing_class, asked()[0]["prompt"])),
    }
    return found, known


def trainer_of(
    name: str, system: int, way: str, folder: Path, steps: int, clock: Clock | None = None
) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from psplit_eval.templates import ChatTemplate
    from psplit_train.config import MethodSettings, ModeSettings
    from psplit_train.sharing import split_of
    from psplit_train.trainer import PolicySplitTrainer

    plain = way == "grpo"
    kind = GRPOTrainer if plain else PolicySplitTrainer
    kind = watched(kind, clock) if clock else kind
    model, tokenizer = loaded(name, folder)
    common = {
        "model": model,
        "args": arguments(name, way, folder, steps),
        "train_dataset": Dataset.from_list(asked()),
    }
    if plain:
        trainer = kind(reward_funcs=[Even()], processing_class=tokenizer, **common)
    else:
        prompt = system_prompt(tokenizer, system)
        modes = [ModeSettings(name="normal"), ModeSettings(name="high", system_prompt=prompt)]
        method = MethodSettings()
        trainer = kind(
            reward=Even(),
            split=split_of(modes, method),
            method=method,
            template=ChatTemplate(tokenizer, name),
            share_prefixes=way == "policy_split",
            **common,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def loaded(name: str, folder: Path) -> tuple[Any, Any]:
    """A model in float32 and its tokenizer, with an end of sequence that it cannot draw."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from psplit_eval.checkpoints import resolve_checkpoint
    from psplit_train.config import TinySettings
    from psplit_train.tiny import make_tiny

    size = SIZES[name]
    if size.width:
        letters = "".join(chr(0x4E00 + number) for number in range(size.letters))
        settings = TinySettings(
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            context=512,
            characters="0123456789+=h " + letters,
        )
        source = make_tiny(settings, folder / "model")
    else:
        source = resolve_checkpoint(name).folder
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer.add_special_tokens({"eos_token": "<never>"})
    assert tokenizer.eos_token_id >= model.config.vocab_size
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    return model, tokenizer


def arguments(name: str, way: str, folder: Path, steps: int) -> Any:
    """TRL's settings; a micro-batch has `rows` rows in every way."""
    from trl import GRPOConfig

    size = SIZES[name]
    micro = size.rows if way == "grpo" else size.rows // 2
    return GRPOConfig(
        str(folder / "out"),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=size.queries * size.group // micro,
        num_generations=size.group,
        max_completion_length=TOKENS,
        learning_rate=1e-6,
        activation_checkpointing=False,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        chat_template_kwargs={},
    )


def asked() -> list[dict[str, Any]]:
    """Sums of four numbers, of 12 characters each."""
    texts = [f"{a}+{a + 7}+{a + 11}+{a + 31}=" for a in range(10, 60)]
    return [{"prompt": [{"role": "user", "content": text}]} for text in texts]


def tokenised(tokenizer: Any, prompt: list[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def system_prompt(tokenizer: Any, tokens: int) -> str:
    """Of exactly so many tokens."""
    text = " ".join("h" * tokens)
    if len(tokenizer(text, add_special_tokens=False)["input_ids"]) != tokens:
        text = "h" * tokens
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == tokens
    return text


class Even:
    """1 for a response whose second token has an even number: half of them, in every group."""

    __name__ = "reward"

    def __call__(
        self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any
    ) -> list[float]:
        from psplit_train.rewards import Graded

        right = [ids[1] % 2 == 0 for ids in completion_ids]
        self.graded = [Graded(one, True, str(one), False) for one in right]
        return [float(one) for one in right]


# The table


def floor(grpo: dict[str, Any], way: str) -> float:
    """The least that a step can take in GRPO's steps (see above)."""
    step, generation = float(grpo["step_seconds"]), float(grpo["generation_seconds"])
    least = 2 - generation / step
    if way != "policy_split_unshared":
        return least
    a_token = float(grpo["update_seconds"]) / int(grpo["trained_positions"])
    rows, tokens = int(grpo["responses"]), int(grpo["system_tokens"])
    return least + rows * tokens * (a_token + a_token / 3 / 2) / step


def ratios(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row of Policy Split against GRPO's of its cell."""
    cells = {(row["model"], row["system_tokens"]): row for row in found if row["way"] == "grpo"}
    made = []
    for row in found:
        grpo = cells[row["model"], row["system_tokens"]]
        if row["way"] != "grpo":
            ratio = float(row["step_seconds"]) / float(grpo["step_seconds"])
            least = floor(grpo, row["way"])
            made.append(
                {
                    "model": row["model"],
                    "system_tokens": int(row["system_tokens"]),
                    "way": row["way"],
                    "generation": float(grpo["generation_seconds"]) / float(grpo["step_seconds"]),
                    "ratio": ratio,
                    "floor": least,
                    "of_floor": ratio / least,
                    "memory": float(row["peak_mb"]) / float(grpo["peak_mb"]),
                }
            )
    return made


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| model | system tokens | way | g | of GRPO's step | floor | of the floor | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ratios(found):
        cells = (row["model"], str(row["system_tokens"]), row["way"], f"{row['generation']:.2f}")
        numbers = (f"{row['ratio']:.2f}", f"{row['floor']:.2f}", f"{row['of_floor']:.2f}")
        lines.append("| " + " | ".join([*cells, *numbers, f"{row['memory']:.2f}"]) + " |")
    return "\n".join([*lines, "", *phases(found)])


def phases(found: list[dict[str, Any]]) -> list[str]:
    """Processor milliseconds of every phase."""
    lines = [
        "| model | system tokens | way | " + " | ".join(PHASES) + " | step | peak MB |",
        "|---|---|---|" + "---|" * (len(PHASES) + 2),
    ]
    for row in found:
        spent = [f"{1000 * float(row[f'{phase}_seconds']):.0f}" for phase in (*PHASES, "step")]
        cells = [row["model"], str(row["system_tokens"]), row["way"], *spent, str(row["peak_mb"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
