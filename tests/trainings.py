"""A stand-in for `psplit-train run`: it trains nothing, and leaves the files that a training does.

Used as a command, `python trainings.py run CONFIG --set NAME=VALUE … --out DIR`, and by tests that
need finished trainings without an hour of work. What it does otherwise is in its config:
`seconds` it takes, `fail` a setting that ends in an error, `shy` one that ignores Ctrl-C.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import yaml

MODES = [
    {"name": "normal", "system_prompt": None, "role": "normal", "sampling": {}},
    {"name": "high", "system_prompt": "Be bold.", "role": "high", "sampling": {}},
]


def entry(step, steps, eta, draw):
    """Of a log: rewards and an entropy that grow, the faster the greater eta is."""
    share = step / steps
    return {
        "step": step,
        "reward/normal": 0.2 + 0.6 * share + draw.gauss(0, 0.03),
        "reward/high": 0.2 + 0.5 * share - eta * share + draw.gauss(0, 0.03),
        "entropy_bits/normal": 1.5 - 0.5 * share + draw.gauss(0, 0.03),
        "entropy_bits/high": 1.5 + (4 * eta - 0.4) * share + draw.gauss(0, 0.03),
        "kl_bits/normal_high": eta * share + abs(draw.gauss(0, 0.005)),
        "kl_bits/high_normal": 1.2 * eta * share + abs(draw.gauss(0, 0.005)),
    }


def write_training(out, entries, modes=MODES):
    """The files of a finished training."""
    (out / "final").mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(line)}\n" for line in entries)
    (out / "training_log.jsonl").write_text(lines)
    (out / "final" / "training_log.jsonl").write_text(lines)
    content = {"format": 1, "modes": modes}
    (out / "final" / "psplit_modes.json").write_text(json.dumps(content))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    asked = yaml.safe_load(given.config.read_text())
    sets = dict(text.split("=", 1) for text in given.set)
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    told = {name: os.environ[name] for name in wanted if name in os.environ}
    with (given.out / "starts.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "sets": sets, "env": told}) + "\n")
    if asked.get("shy") in given.set:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        time.sleep(asked.get("seconds", 0))
    except KeyboardInterrupt:
        (given.out / "stopped").write_text("in good order")
        return 130
    if asked.get("fail") in given.set:
        print("a line before\n\nstand-in: lr 7 is too high; lower it", file=sys.stderr)
        return 2
    draw = random.Random(given.set[-1])
    eta, steps = float(sets.get("method.eta", 0.03)), asked.get("steps", 40)
    write_training(given.out, (entry(i, steps, eta, draw) for i in range(1, steps + 1)))
    (given.out / "ended").write_text(str(time.time()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
