"""TRL's GRPOTrainer for several modes in one set of weights.

TRL samples, optimises, distributes and saves. Here stand: prompts in each mode, every response
under the prompts of the modes that train on it, and what its tokens weigh. The private names of
TRL that this rests on are in `seams.SEAMS`; a test holds them to the pinned version.

The log-probabilities that weights are made of come from the update's own forward pass where whole
groups fit in a micro-batch and each response is used once; otherwise from a pass of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, gather_object
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from psplit_eval.errors import UsageError
from psplit_eval.templates import ChatTemplate
from psplit_train.advantages import Rollouts, group_advantages, rarity_rewards
from psplit_train.baselines import entropy_regularisation, kl_penalty
from psplit_train.checkpoints import staged
from psplit_train.config import MethodSettings
from psplit_train.drawn import Drawn, cut
from psplit_train.generation import rollouts, settings_are_known
from psplit_train.meters import TrainingMeters, gathered
from psplit_train.ordering import EpochSampler
from psplit_train.rewards import Reward
from psplit_train.scoring import Scores, can_share, holds_positions, score, spread
from psplit_train.seams import refuse, refuse_dropout
from psplit_train.sharing import Matrix, Split, beyond
from psplit_train.system_role import in_mode
from psplit_train.weighing import Weights, needs_entropies, needs_groups, needs_scores, weigh

__all__ = ["PolicySplitTrainer", "StepEnd"]


Batch = dict[str, torch.Tensor]
_WHOLE = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Launches in which each process has all weights."""
_BY_ROWS = ("grpo", "dr_grpo")
"""Losses that TRL divides by the number of rows that it is given."""
StepEnd = Callable[[int, Mapping[str, float]], bool]
"""Is given a step and its metrics; says whether training has to stop."""


class PolicySplitTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains the modes of a split, or one mode by a baseline method.

    `args.num_generations` is the number of responses to a query over all modes. `etas` may be
    changed between steps. Raises UsageError for what cannot be trained so.
    """

    def __init__(
        self,
        model: Any,
        args: GRPOConfig,
        reward: Reward,
        split: Split,
        method: MethodSettings,
        template: ChatTemplate,
        share_prefixes: bool = True,
        step_end: StepEnd = lambda step, metrics: False,
        keep_rollouts: Callable[[int, list[dict[str, Any]]], None] | None = None,
        keep_every: int = 1,
        finish_checkpoint: Callable[[int, Path], None] | None = None,
        **others: Any,
    ) -> None:
        """`keep_rollouts` is given a step, every `keep_every` of them, and all responses that were
        drawn for it. `finish_checkpoint` is given a step and the staged folder that Trainer has
        written its checkpoint into (see `checkpoints`), on the main process."""
        refuse(args, split, others)
        self.split, self.method, self.etas = split, method, list(split.etas)
        self._etas = list(split.etas)
        self.reward, self.template = reward, template
        self._keep_rollouts, self._keep_every = keep_rollouts, keep_every
        self._finish_checkpoint = finish_checkpoint
        self._staging: Path | None = None
        self._meters, self._drawn = TrainingMeters(split), Drawn(template)
        self._forwarded: Scores | None = None
        self._cuts: list[Batch] | None = None
        super().__init__(
            model=model,
            reward_funcs=[reward],
            args=args,
            processing_class=template.tokenizer,
            **others,
        )
        refuse_dropout(self.model)
        if self.aux_loss_enabled:
            raise UsageError(
                "a mixture of experts with a router loss: not supported in training modes; set "
                "train.trl router_aux_loss_coef to 0"
            )
        base = self.accelerator.unwrap_model(self.model)
        cached = not args.activation_checkpointing and can_share(base)
        # sharded weights are gathered for what a layer returns, not for what it leaves in a cache
        share = share_prefixes and self.accelerator.distributed_type in _WHOLE
        self._share, self._share_rollouts = share and cached, share and holds_positions(base)
        self.add_callback(_AfterStep(self, step_end))

    @property
    def one_pass(self) -> bool:
        """Whether weights are made of the update's own forward pass."""
        return self._aligned and (
            not needs_groups(self.method, self._etas)
            or self.args.per_device_train_batch_size % self.num_generations == 0
        )

    @property
    def _aligned(self) -> bool:
        """Whether each response is used for one update, by the weights that drew it."""
        return bool(self.args.gradient_accumulation_steps % self._window == 0)

    @property
    def _window(self) -> int:
        """Micro-batches that are trained on the responses of one generation."""
        return int(self.args.steps_per_generation * self.num_iterations)

    # Sampling

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Draw each row in its mode; rewards and advantages of every mode that takes it."""
        rows, group = len(inputs), self.num_generations
        first = self.accelerator.process_index * rows
        samplers = self.split.samplers(first, rows, group, self.accelerator.device)
        modes = [self.split.modes[number] for number in samplers.tolist()]
        asked = [
            {**row, "prompt": in_mode(row["prompt"], mode)}
            for row, mode in zip(inputs, modes, strict=True)
        ]
        self._drawn, self._etas = Drawn(self.template), list(self.etas)
        with self._meters.timed("seconds/rollouts"):
            found = super()._generate_and_score_completions(asked)
        queries = (first + torch.arange(rows, device=samplers.device)) // group - first // group
        starts = {query: row for row, query in reversed(list(enumerate(queries.tolist())))}
        self._drawn.prompts = [
            [self._drawn.encode(in_mode(inputs[row]["prompt"], mode)) for mode in self.split.modes]
            for _, row in sorted(starts.items())
        ]
        batch = self._batch(found, samplers, queries)
        self._keep(asked, samplers, found)
        return self._with_scores(batch, found)

    def _batch(self, found: Batch, samplers: torch.Tensor, queries: torch.Tensor) -> Batch:
        """Rows of responses; values by mode are (rows, modes), so that rows can be cut."""
        rows, group = len(samplers), self.num_generations
        first = self.accelerator.process_index * rows
        here = slice(first, first + rows)
        assert self._drawn.rewards is not None
        everyone = self.split.samplers(0, len(self._drawn.rewards), group, samplers.device)
        rewards, answers = self._rewards_by_mode()
        taken = self.split.taken(everyone)
        advantages, even = group_advantages(rewards, taken, group)
        self._meters.rewards(self._drawn.rewards, answers, everyone, group)
        failed = [one.failed for one in self._drawn.graded]
        self._meters.add("failed_rewards", torch.tensor(failed, dtype=torch.float))
        mask = found["completion_mask"].bool()
        tokens = (self.split.taken(samplers).sum(0) * mask.sum(1)).sum()
        batch = {
            "samplers": samplers,
            "queries": queries,
            "completions": found["completion_ids"],
            "mask": mask,
            "base": advantages[:, here].T,
            "even": even[:, here].T,
            "num_items_in_batch": self.accelerator.gather(tokens).sum(),
        }
        if "importance_sampling_ratio" in found:
            batch["importance_sampling_ratio"] = found["importance_sampling_ratio"]
        return batch

    def _with_scores(self, batch: Batch, found: Batch) -> Batch:
        """Log-probabilities and weights that the update's own pass cannot give."""
        with self._meters.timed("seconds/scoring"):
            if self.beta:
                batch["reference_log_probs"] = self._reference_log_probs(batch)
            if self._aligned and (self.one_pass or not self._needs_scores):
                return batch
            needed = self.split.scored(self.method) if self._needs_scores else self.split.takes
            scores = self._scored_before(batch, found, needed)
            known = beyond(needed, self.split.takes)  # what the update does not see
            if any(map(any, known)):
                mask, samplers = batch["mask"], batch["samplers"]
                self._meters.divergences(scores.log_probs, samplers, mask, known)
            if self._needs_scores:
                weights = self._weighed_together(batch, scores)
                batch["advantages"] = weights.advantages.transpose(0, 1)
                if weights.penalised is not None:
                    batch["penalised"] = weights.penalised
            if not self._aligned:
                batch["old_log_probs"] = scores.log_probs.transpose(0, 1)
        return batch

    @property
    def _needs_scores(self) -> bool:
        return needs_scores(self.method, self._etas)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The very tokens that evaluation would send."""
        return [list(self._drawn.encode(prompt)) for prompt in prompts], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: Any,
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> Any:
        """A run of equal prompts is as long as one mode's share of a query: a vLLM server is sent
        every `num_generations`-th prompt only. In process each prompt is run once."""
        if self._share_rollouts and settings_are_known(self):
            return rollouts(self, prompt_ids), None
        return super()._generate_single_turn(
            prompt_ids,
            images,
            multimodal_fields,
            num_generations // len(self.split.modes),
            has_tool_images,
        )

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """Responses are read as evaluation reads them: no thought, no text after a stop."""
        self._drawn.read(prompts, completion_ids_list, self.eos_token_ids)
        read = [[{"role": "assistant", "content": text}] for text in self._drawn.texts]
        with self._meters.timed("seconds/rewards"):
            rewards: torch.Tensor = super()._calculate_rewards(
                inputs, prompts, read, completion_ids_list
            )
        self._drawn.graded = self.reward.graded
        self._drawn.rewards = rewards[:, 0]
        return rewards

    def _rewards_by_mode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rewards (M, R) of all processes, and numbers of right answers (R,), -1 for others."""
        plain = self._drawn.rewards
        assert plain is not None
        numbers = [graded.number for graded in self._drawn.graded]
        answers = self.accelerator.gather(torch.tensor(numbers, device=plain.device))
        rare = rarity_rewards(plain, answers, self.num_generations)
        explores = [explores and self.method.rarity for explores in self.split.explores]
        return torch.stack([rare if wanted else plain for wanted in explores]), answers

    # Training

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        return EpochSampler(super()._get_train_sampler(dataset), lambda: int(self.state.epoch))

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """The micro-batch of this step, of responses that are drawn once a window."""
        if not self.model.training:
            raise UsageError("evaluation during training: give `evaluate:` in the config instead")
        micro_batches = self.args.steps_per_generation
        if self._step % self._window == 0 or self._cuts is None:
            batch = self._generate_and_score_completions(generation_batch)
            size = self.args.per_device_train_batch_size
            self._cuts = cut(batch, size, self.num_generations)
        return dict(self._cuts[self._step % micro_batches])

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """TRL's loss over every (mode, response) that is trained, with this method's weights."""
        taken = self.split.taken(inputs["samplers"])
        scores = self._scored(model, inputs)
        weights = self._weights(inputs, scores)
        old = inputs.get("old_log_probs")
        old = scores.log_probs.detach() if old is None else old.transpose(0, 1)
        flat = self._flat(inputs, taken, weights, old)
        self._forwarded = Scores(*(self._pairs(values, taken) for values in scores))
        loss: torch.Tensor = super()._compute_loss(model, flat)
        if self.loss_type in _BY_ROWS:  # the same whatever rows a micro-batch has
            rows = self.split.pairs_a_row * len(inputs["samplers"])
            loss = loss * len(flat["completion_ids"]) / rows
        self._meter_update(inputs, scores, weights.advantages, old)
        return loss + self._further_terms(inputs, scores, weights, old)

    def _weights(self, inputs: Batch, scores: Scores) -> Weights:
        mask = inputs["mask"]
        if "advantages" in inputs:
            return Weights(inputs["advantages"].transpose(0, 1), penalised=inputs.get("penalised"))
        if not self._needs_scores:
            plain = inputs["base"].T[..., None] * mask
            return Weights(plain * self.split.taken(inputs["samplers"])[..., None])
        return self._weighed(inputs, scores)

    def _flat(
        self, inputs: Batch, taken: torch.Tensor, weights: Weights, old: torch.Tensor
    ) -> Batch:
        """Trained (mode, response) pairs as rows of TRL's."""
        modes = len(taken)

        def rows(values: torch.Tensor) -> torch.Tensor:
            return self._pairs(values.expand(modes, *values.shape), taken)

        completions = rows(inputs["completions"])
        flat = {
            "prompt_ids": completions[:, :0],
            "prompt_mask": completions[:, :0],
            "completion_ids": completions,
            "completion_mask": rows(inputs["mask"]).long(),
            "advantages": self._pairs(weights.advantages, taken),
            "old_per_token_logps": self._pairs(old, taken),
            "num_items_in_batch": inputs["num_items_in_batch"],
        }
        if "importance_sampling_ratio" in inputs:
            flat["importance_sampling_ratio"] = rows(inputs["importance_sampling_ratio"])
        if "reference_log_probs" in inputs:
            reference = inputs["reference_log_probs"].transpose(0, 1)
            flat["ref_per_token_logps"] = self._pairs(reference, taken)
        return flat

    def _pairs(self, values: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
        """Values (M, rows, ...) of trained pairs, (pairs, ...). Where processes may have different
        numbers of them these are all pairs, 0 for those that are not trained: TRL gathers
        statistics of rows."""
        if self.accelerator.num_processes == 1 or not self.split.uneven:
            return values[taken]
        return values.masked_fill(~taken.view(*taken.shape, *[1] * (values.ndim - 2)), 0).flatten(
            0, 1
        )

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **settings: Any) -> Any:
        """In the loss: what this trainer's own forward found. While sampling only what TRL makes
        vLLM's importance ratios of; its other passes come later, under every mode."""
        if self._forwarded is not None:
            found, self._forwarded = self._forwarded, None
            return found.log_probs, found.entropies, None
        if self._corrects and model is self.model:
            return super()._get_per_token_logps_and_entropies(model, *args, **settings)
        ids, kept = args[0], args[2]
        return torch.zeros(len(ids), kept, device=ids.device), None, None

    @property
    def _corrects(self) -> bool:
        """Whether TRL weighs what vLLM drew by how likely the trained model finds it."""
        return bool(self.use_vllm and self.vllm_importance_sampling_correction)

    def _further_terms(
        self, inputs: Batch, scores: Scores, weights: Weights, old: torch.Tensor
    ) -> torch.Tensor:
        """What a method adds to the policy loss."""
        mask, samplers = inputs["mask"], inputs["samplers"]
        loss = scores.log_probs.new_zeros(())
        if coefficient := self.method.entropy_weight:
            explores = torch.tensor(self.split.explores, device=samplers.device)
            whose = explores if self.method.splits else torch.ones_like(explores)
            modes = torch.arange(len(whose), device=samplers.device)
            own = ((modes[:, None] == samplers) & whose[:, None])[..., None] & mask
            tokens = self._tokens(own, inputs)
            loss = loss - entropy_regularisation(scores.entropies, own, coefficient, tokens)
        if weights.penalised is not None:
            change = torch.where(weights.penalised, scores.log_probs[0] - old[0], 0.0)
            penalty = kl_penalty(change, weights.penalised, self.method.kl_coefficient)
            loss = loss + penalty.sum() / self._tokens(mask, inputs)
        return loss

    def _tokens(self, where: torch.Tensor, inputs: Batch) -> torch.Tensor:
        """What a micro-batch's sum over tokens is divided by, to be its part in a step's mean: over
        all that are trained for loss dapo, else over its own."""
        parts = self.current_gradient_accumulation_steps
        share: torch.Tensor = where.sum().clamp(min=1) * parts
        if self.loss_type == "dapo":
            whole = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
            share = whole * parts / self.args.steps_per_generation
        return share

    # Scores

    def _scored(self, model: Any, inputs: Batch) -> Scores:
        """What is trained, with gradients; what only weights need, without: (M, rows, T)."""
        scores = self._under_modes(model, inputs, self.split.takes)
        further = beyond(self._scored_in_update(inputs), self.split.takes)
        if not any(map(any, further)):
            return scores
        with torch.no_grad():
            others = self._under_modes(model, inputs, further)
        return Scores(*(torch.where(a.isnan(), b, a) for a, b in zip(scores, others, strict=True)))

    def _scored_in_update(self, inputs: Batch) -> Matrix:
        """Whose responses the update scores under mode m, [m][s]."""
        ahead = "advantages" in inputs or not self._needs_scores
        return self.split.takes if ahead else self.split.scored(self.method)

    def _under_modes(self, model: Any, inputs: Batch, matrix: Matrix) -> Scores:
        """Scores (M, rows, T) of rows of mode s under mode m where matrix[m][s]; NaN elsewhere.

        Where prompts are shared, modes are rows of one forward pass; else each has a pass, so that
        none is padded to another's prompt. The number of passes is the same on every process,
        whatever rows it has: sharded weights are gathered in each of them.
        """
        pairs = torch.tensor(matrix, device=inputs["mask"].device)[:, inputs["samplers"]]
        wanted = [mode for mode, some in enumerate(matrix) if any(some)]
        if not wanted:
            nothing = torch.full((*pairs.shape, inputs["mask"].shape[1]), torch.nan).to(
                pairs.device
            )
            return Scores(nothing, nothing)
        passes = [wanted] if self._share else [[mode] for mode in wanted]
        found = [self._pass(model, inputs, pairs, modes) for modes in passes]
        every = all(map(all, matrix))
        return Scores(*(spread(torch.cat(one), pairs, every) for one in zip(*found, strict=True)))

    def _pass(self, model: Any, inputs: Batch, pairs: torch.Tensor, modes: Sequence[int]) -> Scores:
        """Scores (n, T) of the n (mode, row) pairs of these modes, in one forward pass."""
        places = [(modes[m], row) for m, row in pairs[modes].nonzero().tolist()]
        count = len(places)
        if not places:  # a micro-batch of other modes' rows
            places = [(modes[0], 0)]
        queries = inputs["queries"].tolist()
        asked = [(queries[row], mode) for mode, row in places]
        prompts = {prompt: number for number, prompt in enumerate(dict.fromkeys(asked))}
        rows = torch.tensor([row for _, row in places], device=pairs.device)
        with self.accelerator.autocast():
            found = score(
                model,
                [self._drawn.prompts[query][mode] for query, mode in prompts],
                torch.tensor([prompts[prompt] for prompt in asked], device=pairs.device),
                inputs["completions"][rows],
                inputs["mask"][rows],
                self._share,
            )
        return Scores(*(values[:count].float() for values in found))

    def _scored_ahead(self, batch: Batch, matrix: Matrix, model: Any = None) -> Scores:
        """Scores of all responses of a generation, a micro-batch at a time, without gradients."""
        size = self.args.per_device_train_batch_size
        checkpointing = self.args.gradient_checkpointing_kwargs
        parts = []
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            for start in range(0, len(batch["samplers"]), size):
                rows = slice(start, start + size)
                part = {name: values[rows] for name, values in batch.items() if values.ndim}
                parts.append(self._under_modes(model or self.model, part, matrix))
        return Scores(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))

    def _scored_before(self, batch: Batch, found: Batch, needed: Matrix) -> Scores:
        """Scores before the update. Where log-probabilities are enough, a mode's own responses have
        those that TRL found to correct vLLM's."""
        if not self._corrects or needs_entropies(self.method):
            return self._scored_ahead(batch, needed)
        own = [[a == b for b in range(len(needed))] for a in range(len(needed))]
        scores = self._scored_ahead(batch, beyond(needed, own))
        rows = torch.arange(len(batch["samplers"]), device=batch["samplers"].device)
        scores.log_probs[batch["samplers"], rows] = found["old_per_token_logps"]
        return scores

    def _reference_log_probs(self, batch: Batch) -> torch.Tensor:
        """Of the weights at the start, under every mode that takes a row: (rows, M, T)."""
        taken = self.split.takes
        if self.ref_model is not None:
            scores = self._scored_ahead(batch, taken, self.ref_model)
        else:
            model = self.accelerator.unwrap_model(self.model)
            with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
                scores = self._scored_ahead(batch, taken)
        return scores.log_probs.transpose(0, 1)

    # Weights

    def _weighed(self, inputs: Batch, scores: Scores) -> Weights:
        """Of whole groups, or of any rows where a method needs no groups."""
        rollouts = Rollouts(
            self.num_generations,
            inputs["samplers"],
            self.split.taken(inputs["samplers"]),
            inputs["base"].T,
            inputs["even"].T,
            inputs["mask"],
            scores.log_probs.detach(),
            scores.entropies.detach(),
        )
        generator = torch.Generator(device=inputs["mask"].device)
        place = self._step % self._window  # a resumed run counts its steps anew
        generator.manual_seed(self.args.seed + 1_000_003 * self.state.global_step + place)
        with torch.no_grad():
            weights = weigh(self.method, self.split, self._etas, rollouts, generator)
        if weights.size is not None and weights.clamped is not None:
            self._meters.bonus(self._etas, rollouts.tokens, weights.size, weights.clamped)
        return weights

    def _weighed_together(self, batch: Batch, scores: Scores) -> Weights:
        """Of a whole generation; of all processes, where a group is on several of them."""
        rows = len(batch["samplers"])
        if rows % self.num_generations == 0 or not needs_groups(self.method, self._etas):
            return self._weighed(batch, scores)
        names = ("samplers", "base", "even", "mask")
        together = {name: gathered(self.accelerator, batch[name]) for name in names}
        everything = Scores(
            *(
                gathered(self.accelerator, values.transpose(0, 1)).transpose(0, 1)
                for values in scores
            )
        )
        weights = self._weighed(together, everything)
        first = self.accelerator.process_index * rows
        width = batch["mask"].shape[1]
        return Weights(weights.advantages[:, first : first + rows, :width])

    # What is logged

    @torch.no_grad()
    def _meter_update(
        self, inputs: Batch, scores: Scores, advantages: torch.Tensor, old: torch.Tensor
    ) -> None:
        samplers, mask = inputs["samplers"], inputs["mask"]
        self._meters.policies(scores.entropies, samplers, mask)
        known = self._scored_in_update(inputs)
        self._meters.divergences(scores.log_probs, samplers, mask, known)
        ratio = torch.exp(scores.log_probs - old)
        low, high = ratio < 1 - self.epsilon_low, ratio > 1 + self.epsilon_high
        clipped = (low & (advantages < 0)) | (high & (advantages > 0))
        self._meters.ratios(ratio, clipped, samplers, mask)

    def finish_step(self) -> dict[str, float]:
        """The metrics of a step, over all processes, also put where TRL logs them from."""
        metrics = self._meters.read()
        for number, name in enumerate(self.split.names):
            if self.etas[number] or self.split.explores[number]:
                metrics[f"eta/{name}"] = self.etas[number]
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        return metrics

    def _keep(self, asked: list[dict[str, Any]], samplers: torch.Tensor, found: Batch) -> None:
        """Hand the responses of all processes to whoever keeps them."""
        if self._keep_rollouts is None or self.state.global_step % self._keep_every:
            return
        modes = [self.split.names[number] for number in samplers.tolist()]
        rows = self._drawn.rows(asked, modes, found["completion_mask"].sum(1).tolist())
        everyone = gather_object(rows)
        if self.accelerator.is_main_process:
            self._keep_rollouts(self.state.global_step + 1, everyone)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Written in a hidden folder, which gets its name when all of it is there."""
        if self._finish_checkpoint is None:
            super()._save_checkpoint(model, trial)
            return
        step = self.state.global_step
        folder = staged(Path(self.args.output_dir), step)
        self._staging = folder.parent
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._finish_checkpoint(step, folder)
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """psplit writes its own into every checkpoint."""


class _AfterStep(TrainerCallback):  # type: ignore[misc]
    """Closes a step's metrics, and asks whether to go on."""

    def __init__(self, trainer: PolicySplitTrainer, step_end: StepEnd) -> None:
        self._trainer, self._step_end = trainer, step_end

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        metrics = self._trainer.finish_step()
        if self._step_end(state.global_step, metrics):
            control.should_training_stop = True
        return control
