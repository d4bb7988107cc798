"""Rows that a model decodes together.

Equal prompts are run once, and what many prompts begin with is run once for all of them. A row
that has finished leaves; others join in its place where the model's cache allows it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from psplit_eval.kvcache import growing, is_plain, side_by_side

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "common_prefix", "padded"]

Ids = tuple[int, ...]

_LEAST_SHARED = 16
"""A shorter common beginning is not worth a run of its own."""


class Batch:
    """The rows that are being decoded, each at its own position.

    `logits` (rows, vocabulary) are those of every row's next token.
    """

    logits: torch.Tensor

    def __init__(
        self, model: Any, padding: int, rows: int, beginnings: dict[Ids, Any] | None = None
    ) -> None:
        """For at most `rows` rows of a causal model; `beginnings` keeps what was shared before."""
        self._model = model
        self._padding = padding
        self._rows = rows
        self._cache: Any = None
        self._beginnings: dict[Ids, Any] = {} if beginnings is None else beginnings

    def admit(self, prompts: Sequence[Ids], shared: Sequence[Ids] = ()) -> None:
        """Run prompts and put their rows behind those that are there, if any: plain caches only.

        `shared`: how each prompt begins, () where that is not known to be shared with others.
        """
        import torch

        whole = list(dict.fromkeys(zip(prompts, shared or [()] * len(prompts), strict=True)))
        logits, cache, mask = self._prefill([p for p, _ in whole], [s for _, s in whole])
        number = {prompt: i for i, (prompt, _) in enumerate(whole)}
        places = torch.tensor([number[prompt] for prompt in prompts], device=logits.device)
        logits, mask = logits[places], mask[places]
        if self._cache is None:
            self._begin(cache, places)
            self.logits, self._mask = logits, mask
        else:
            self._join(cache, places, mask)
            self.logits = torch.cat([self.logits, logits])
        self._positions = self._mask.sum(dim=1)

    def _begin(self, cache: Any, places: torch.Tensor) -> None:
        if is_plain(cache):
            self._cache = growing(cache, places, self._rows)
        else:
            cache.batch_select_indices(places)
            self._cache = cache

    def _join(self, cache: Any, places: torch.Tensor, mask: torch.Tensor) -> None:
        """Add rows; first positions that no row uses any more are dropped where they are many."""
        import torch
        from torch.nn.functional import pad

        old = self._mask.shape[1]
        unused = int(self._mask.any(dim=0).int().argmax())
        used = old if unused < old // 4 else old - unused
        length = max(used, mask.shape[1])
        for layer, new in zip(self._cache.layers, cache.layers, strict=True):
            layer.join(new.keys[places], new.values[places], length)
        fitted = [pad(part, (length - part.shape[1], 0)) for part in (self._mask, mask)]
        self._mask = torch.cat(fitted)

    def keep(self, order: Sequence[int]) -> None:
        """Let rows leave: keep those at the old places `order`, in this order."""
        import torch

        if not order:
            self._cache = None
            return
        places = torch.tensor(order, device=self._mask.device)
        self._mask, self._positions = self._mask[places], self._positions[places]
        self.logits = self.logits[places]
        if is_plain(self._cache):
            for layer in self._cache.layers:
                layer.keep(order)
        else:
            self._cache.batch_select_indices(places)

    def step(self, tokens: torch.Tensor) -> None:
        """Append a token (rows,) to every row."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        output = self._model(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self.logits, self._positions = output.logits[:, -1], self._positions + 1

    def extend(
        self, ids: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Run n positions more of every row: logits (rows, n, vocabulary). Plain caches only.

        `ids` (rows, n); `depths` (rows, n): how far behind the prompt a position stands, from 0.
        `visible` (rows, n, positions run by `extend` so far and these): which of those behind the
        prompt a position sees; it always sees the prompt. Rows stay where they are for `step`.
        """
        import torch

        rows, n = ids.shape
        prompt = self._mask[:, None, :].bool().expand(rows, n, -1)
        seen = torch.cat([prompt, visible], dim=2)[:, None]
        least = torch.finfo(self._model.dtype).min
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=seen.device)
        output = self._model(
            input_ids=ids,
            attention_mask=mask.masked_fill_(~seen, least),
            position_ids=self._positions[:, None] + depths,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: torch.Tensor = output.logits
        return logits

    def score(self, answers: Sequence[Ids]) -> list[tuple[float, bool]]:
        """Of an answer a row: its log-probability in nats, and whether it is the greedy one."""
        import torch

        device, width = self.logits.device, max(map(len, answers))
        ids, there = padded(answers, self._padding, device, right=True)
        steps = [self.logits]
        if width > 1:
            output = self._model(
                input_ids=ids[:, :-1],
                attention_mask=torch.cat([self._mask, there[:, :-1]], dim=1),
                position_ids=self._positions[:, None] + torch.arange(width - 1, device=device),
                past_key_values=self._cache,
                use_cache=True,
            )
            steps += list(output.logits.unbind(dim=1))
        total = torch.zeros(len(answers), dtype=torch.float64)
        greedy = torch.ones(len(answers), dtype=torch.bool)
        for step, tokens, valid in zip(steps, ids.T, there.T.bool(), strict=True):
            chosen = torch.log_softmax(step.float(), dim=-1).gather(1, tokens[:, None])[:, 0]
            total += torch.where(valid, chosen, 0.0).cpu()
            greedy &= ((step.argmax(dim=-1) == tokens) | ~valid).cpu()
        return list(zip(total.tolist(), greedy.tolist(), strict=True))

    def _prefill(self, prompts: Sequence[Ids], shared: Sequence[Ids]) -> tuple[Any, Any, Any]:
        """Run prompts: logits of their next tokens (n, vocabulary), cache, mask (n, positions)."""
        import torch

        rests = [prompt[len(start) :] for prompt, start in zip(prompts, shared, strict=True)]
        ids, mask = self._left_padded(rests)
        cache, before = self._shared_cache(shared)
        if before is not None:
            mask = torch.cat([before, mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1], output.past_key_values, mask

    def _shared_cache(self, shared: Sequence[Ids]) -> tuple[Any, torch.Tensor | None]:
        """A cache that every row begins with, and its mask; None where nothing is shared."""
        import torch

        width = max(map(len, shared), default=0)
        if not width:
            return None, None
        longest = max(shared, key=len)
        caches = [self._beginning(start or longest) for start in shared]
        mask = torch.zeros((len(shared), width), dtype=torch.long, device=self._model.device)
        for row, start in enumerate(shared):
            mask[row, width - len(start) :] = 1
        return side_by_side(caches, width), mask

    def _beginning(self, ids: Ids) -> Any:
        """The cache of a shared beginning, run once."""
        if ids not in self._beginnings:
            row, mask = self._left_padded([ids])
            output = self._model(
                input_ids=row, attention_mask=mask, use_cache=True, logits_to_keep=1
            )
            self._beginnings[ids] = output.past_key_values
        return self._beginnings[ids]

    def _left_padded(self, rows: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        return padded(rows, self._padding, self._model.device)


def padded(
    rows: Sequence[Ids], padding: int, device: Any, right: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as ids and mask (rows, longest), filled up on the left, or on the right."""
    import torch

    width = max(map(len, rows))
    ids = torch.full((len(rows), width), padding)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if right else slice(width - len(row), width)
        ids[i, place] = torch.tensor(row)
        mask[i, place] = 1
    return ids.to(device), mask.to(device)


def common_prefix(prompts: Collection[Ids]) -> Ids:
    """What different prompts begin with, leaving each a token of its own; () if it is short."""
    low, high = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    length = 0
    while length < limit and low[length] == high[length]:
        length += 1
    return low[:length] if low != high and length >= _LEAST_SHARED else ()
