#!/usr/bin/env bash
# Train two candidates from one start, ask all three the same, rank them, and gate both candidates.
# The second one is broken. Its gate comes last, so this ends with that exit code: 1.
# Given again, it goes on where it stopped: nothing is trained or sampled twice.
set -euo pipefail
cd "$(dirname "$0")"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # of a model this small more threads only take turns

ASK="--modes normal,high --include-path runs/good/held_out --tasks held_out --samples 16 --no-divergence"

psplit-train run train.yaml --out runs/good
psplit-train run broken.yaml --out runs/broken

psplit-eval run --model runs/start/warmed $ASK --out runs/eval_start
psplit-eval run --model runs/good/final $ASK --out runs/eval_good
psplit-eval run --model runs/broken/final $ASK --out runs/eval_broken

psplit-eval leaderboard start=runs/eval_start good=runs/eval_good broken=runs/eval_broken --out runs/board

psplit-eval gate --baseline runs/eval_start --candidate runs/eval_good --rules gate.yaml --out runs/gate_good
psplit-eval gate --baseline runs/eval_start --candidate runs/eval_broken --rules gate.yaml --out runs/gate_broken
