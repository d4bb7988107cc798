"""What a language model is surprised by: evidence for validity_pairs.py and validity_aut.py.

    python benchmarks/surprise.py pairs FILE --limit 421
    python benchmarks/surprise.py uses FILE --limit 170    # a number of uses for each object

One JSON object a line: of a pair, the bits of the second answer alone and after the first, and the
log-odds of 'Yes' to whether both are the same; of a use, its bits with the object in the prompt and
without. SmolLM2-135M-Instruct takes some seconds a pair on one core, so nothing that psplit ships
is based on it unless it is worth that: give FILE to the two scripts as `--surprise`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labelled import data

from psplit_eval.checkpoints import resolve_checkpoint

PROMPT_TOKENS, ANSWER_TOKENS, USE_CHARACTERS = 80, 160, 300
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
AGAIN = f"<|im_end|>\n{USER}Answer once more.{ASSISTANT}"
SAME = (
    f"<|im_end|>\n{USER}Are your two answers the same in content? Say Yes or No.{ASSISTANT}"
    " The answer is:"
)


class Reader:
    """SmolLM2 as a measure of surprise."""

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        folder = str(resolve_checkpoint("smollm2-135m").folder)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._yes, self._no = self.ids(" Yes")[0], self.ids(" No")[0]

    def ids(self, text: str, most: int | None = None) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids[:most])

    @torch.inference_mode()
    def read(
        self, before: Sequence[int], text: Sequence[int], after: Sequence[int] = ()
    ) -> tuple[float, float]:
        """Bits of `text` after `before`; log-odds of 'Yes' against 'No' at the end of all."""
        logits = self._model(torch.tensor([[*before, *text, *after]])).logits[0]
        start = len(before) - 1
        logs = torch.log_softmax(logits[start : start + len(text)], dim=-1)
        bits = -logs.gather(1, torch.tensor(text)[:, None]).sum().item() / math.log(2)
        return bits, float(logits[-1, self._yes] - logits[-1, self._no])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pairs", "uses"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=int, default=10**6)
    options = parser.parse_args()
    found = pairs if options.what == "pairs" else uses
    with options.file.open("w", encoding="utf-8") as out:
        for row in found(Reader(), options.limit):
            out.write(json.dumps(row) + "\n")
            out.flush()


def pairs(reader: Reader, limit: int) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(islice(data("noveltybench/human_pairs.jsonl.gz"), limit)):
        asked = [*reader.ids(USER), *reader.ids(row["prompt"], PROMPT_TOKENS)]
        asked += reader.ids(ASSISTANT)
        one, two = (reader.ids(row[f"generation_{j}"], ANSWER_TOKENS) for j in (0, 1))
        if one and two:
            alone, _ = reader.read(asked, two)
            given, yes = reader.read([*asked, *one, *reader.ids(AGAIN)], two, reader.ids(SAME))
            yield {"row": i, "tokens": len(two), "alone": alone, "given": given, "yes": yes}


def uses(reader: Reader, limit: int) -> Iterator[dict[str, Any]]:
    everything = list(data("aut/ocsai1_main2.jsonl.gz"))
    rng = np.random.default_rng(0)
    for item in dict.fromkeys(row["item"] for row in everything):
        of = [i for i, row in enumerate(everything) if row["item"] == item]
        for i in rng.permutation(of)[:limit].tolist():
            text = reader.ids(" " + everything[i]["response"][:USE_CHARACTERS])
            named, _ = reader.read(reader.ids(f"A surprising use for a {item}:"), text)
            alone, _ = reader.read(reader.ids("A surprising idea:"), text)
            yield {"row": i, "tokens": len(text), "alone": alone, "given": named}


if __name__ == "__main__":
    main()
