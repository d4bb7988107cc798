"""What a training run is asked for: every setting, its unit, its range and its default.

A config file is YAML with these sections; `loading.read_config` reads it, and complains by line.
Methods and their defaults are those of method tables in the papers that they cite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from psplit_eval.errors import UnknownNameError
from psplit_eval.modes import BUILTIN_MODES, Mode

__all__ = [
    "BASELINES",
    "METHODS",
    "AlarmSettings",
    "CheckpointSettings",
    "Config",
    "ControllerSettings",
    "DataSettings",
    "EngineSettings",
    "EvaluateSettings",
    "KeepSettings",
    "LogSettings",
    "LoraSettings",
    "MethodSettings",
    "ModeSettings",
    "ModelSettings",
    "RewardSettings",
    "StabilitySettings",
    "TinySettings",
    "TrainSettings",
    "WarmupSettings",
]

BASELINES = (
    "grpo",
    "forking_tokens",
    "clip_cov",
    "kl_cov",
    "entropy_driven",
    "entropy_regularisation",
    "entropy_advantage",
    "clip_higher",
)
_STABLE = {
    "kappa": 0.0,
    "alpha": 1.0,
    "eta": 0.35,
    "eta_normal": 0.25,
    "target_gap_bits": 0.35,
    "truncated_weights": 1.0,
}
METHODS = ("policy_split", "policy_split_stable", *BASELINES)

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # of settings that are TRL's own: they would become null
    )


class TinySettings(_Section):
    """A Llama made from nothing, with a token for every character: for laptops and tests."""

    layers: Annotated[int, Field(ge=1, le=100)] = 2
    """Transformer layers."""
    width: Annotated[int, Field(ge=1, le=8192)] = 64
    """Of the hidden states: a multiple of twice the heads."""
    heads: Positive = 4
    """Attention heads."""
    context: Positive = 64
    """Tokens of prompt and response together, at most."""
    characters: str = "0123456789+-*/=() .,?abcdefghijklmnopqrstuvwxyz"
    """All that questions, system prompts and answers are written in; a token each."""
    seed: int = 0
    """Of the weights before any training."""


class LoraSettings(_Section):
    """Low-rank adapters in place of all weights (peft); dropout is 0: ratios have to be exact."""

    rank: Positive = 16
    """Of the adapters."""
    alpha: Positive = 32
    """Adapters are scaled by alpha / rank."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the linear maps that have one."""


class ModelSettings(_Section):
    """Which weights training starts from: a checkpoint (folder or hub id), or a tiny new model."""

    checkpoint: str | None = None
    """A folder, a hub id, or a name that psplit-eval knows (smollm2-135m)."""
    tiny: TinySettings | None = None
    """A new model in place of a checkpoint."""
    chat_template: Path | None = None
    """A Jinja file in place of the tokenizer's own template; it has to take a system message."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in. Weights that are trained, and their optimiser, are float32."""
    attention: str | None = None
    """transformers' `attn_implementation`; None: its default."""
    lora: LoraSettings | None = None
    """None: all weights are trained."""
    enable_thinking: bool | None = None
    """Passed to chat templates that think; None: not passed."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.checkpoint is None) == (self.tiny is None):
            raise ValueError("expected either checkpoint or tiny; give one of them")
        return self


class ModeSettings(_Section):
    """A mode to train: psplit's built-in prompt for its name, or a prompt of its own."""

    name: str
    """Letters, digits, - and _."""
    system_prompt: str | None = None
    """None: no system message is sent. Not given: the built-in one of that name."""
    role: Literal["normal", "high", "low", "other"] | None = None
    """What verdicts take the mode for; None: the built-in one of its name, or other. Modes of role
    high have the method's eta, rarity, the entropy term and the controller."""
    eta: float | None = None
    """Weight of its entropy bonus; None: the method's eta for role high, 0 for others. Below 0 a
    mode is trained to be of low entropy."""
    reference: str | None = None
    """The mode whose log-probabilities are mixed in (1 - alpha); None: the first mode."""

    def mode(self) -> Mode:
        """As evaluation knows it."""
        known = BUILTIN_MODES.get(self.name)
        given = "system_prompt" in self.model_fields_set
        prompt = self.system_prompt if given or not known else known.system_prompt
        role = self.role or (known.role if known else "other")
        return Mode(self.name, prompt, role)


class DataSettings(_Section):
    """Where prompts come from: a generated task, a JSON Lines file, or a data set of the hub."""

    task: str | None = None
    """Name of a generated task (`psplit_train.tasks.TASKS`)."""
    file: Path | None = None
    """JSON Lines, .jsonl or .jsonl.gz."""
    hub: str | None = None
    """A data set of the Hugging Face hub."""
    subset: str | None = None
    """Of the hub's data set."""
    split: str = "train"
    """Of the hub's data set."""
    prompt_field: str = "question"
    """The field that has the question."""
    answer_field: str = "answer"
    """The field that has the answer."""
    instruction: str | None = None
    """Put after every question, a blank line apart: where the answer is to stand, say. None: a
    generated task's own; empty: none (a tiny model learns the form in warm-up)."""
    answer_pattern: str | None = None
    """Where a response states its answer: a regular expression with a group; None: \\boxed{}, or
    a generated task's own."""
    target_pattern: str | None = None
    """Where the answer field states it (GSM8K: `#### (.+)`); None: the whole field."""
    limit: Positive | None = None
    """Train on so many prompts, chosen by `seed`; None: on all."""
    held_out: Count = 0
    """So many prompts are never trained on, chosen by `seed`; `evaluate` asks them."""
    decontaminate: bool = True
    """Drop prompts that share 13 words in a row with a doc of the evaluation sets."""
    against: tuple[str, ...] = ()
    """More evaluation sets: JSON Lines files or folders of them, every text of theirs counts."""
    seed: int = 0
    """Orders a generated task, and chooses what is held out and what `limit` keeps."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.task, self.file, self.hub)) != 1:
            raise ValueError("expected exactly one of task, file and hub; give one of them")
        return self


class RewardSettings(_Section):
    """What a response earns: the sum of these, each times its weight."""

    correct: float = 1.0
    """For a right answer, by the checker that evaluation uses."""
    format: float = 0.0
    """For an answer that stands where it should, right or wrong."""
    time_limit: Annotated[float, Field(gt=0)] = 5.0
    """Seconds for checking one response; beyond it counts as a failed check, reward 0."""


class MethodSettings(_Section):
    """A method and its settings; those of other methods are not looked at.

    `policy_split` has the published values (arXiv 2604.11510, Table 9), `policy_split_stable`
    those with which two modes came of one and kept their answers in psplit's own studies: kappa 0,
    alpha 1, eta 0.35, eta_normal 0.25, both less once the modes are 0.35 bits apart, truncated
    weights on shared rows.
    """

    name: str = "policy_split"
    """The method: two of Policy Split, eight that it is compared with."""
    eta: float = 0.03
    """Weight of the bonus for modes of role high (Eq. 3)."""
    eta_normal: float = 0.0
    """The same for the first mode, applied with a minus sign; 0 in the paper."""
    alpha: Fraction = 0.5
    """Share of the mode's own log-probability in the bonus; the rest is its reference's (Eq. 6)."""
    target_gap_bits: Annotated[float, Field(gt=0)] | None = None
    """Bonuses of all modes shrink together while the entropy of high exceeds the first mode's by
    more than this, in bits a token, and grow again, up to what they are set to, while it does not.
    None: they stay. Not the paper's."""
    kappa: Annotated[float, Field(ge=0)] = 2.0
    """The bonus is at most |A| / kappa; 0: no limit."""
    clip_form: Literal["code", "paper"] = "code"
    """clip(eta * B), as in the authors' code, or eta * clip(B), as in Eq. 3."""
    estimate: Literal["logprob", "entropy"] = "logprob"
    """Bonus of a token: its negative log-probability (Eq. 6), or the whole vocabulary's entropy."""
    normalise: Literal["zscore", "mean", "none"] = "zscore"
    """Bonus over a group: z-score; (b - mean) / range; or as it is."""
    lowest_entropy_mask_ratio: Fraction = 0.0
    """The bonus of this share of a group's tokens, those of the lowest bonus, is 0."""
    correctness_mask: Literal["none", "all_same"] = "none"
    """all_same: a bonus only in groups whose rewards are all equal."""
    sharing: Literal["on", "off", "to_normal", "from_normal"] = "on"
    """Who trains on whose responses: all on all; each on its own; or the first mode on all and
    others on their own (to_normal); or others on their own and the first mode's, and it on its
    own (from_normal)."""
    positive_only: bool = False
    """Shared rows count only where their advantage is above 0."""
    truncated_weights: Annotated[float, Field(gt=0)] | None = None
    """A shared row's token advantage is multiplied by min(this, pi_mode / pi_sampler)."""
    rarity: bool = False
    """High modes: a right answer's reward is divided by how often the group gave it. Not the
    paper's."""
    entropy_term: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a differentiable entropy term on high modes' own responses. Not the paper's."""
    top_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """forking_tokens: the share of tokens, those of the highest entropy, that are trained."""
    covariance_share: Annotated[float, Field(gt=0, le=1)] = 0.0002
    """clip_cov, kl_cov: the share of tokens that is taken."""
    covariance_low: float = 1.0
    """clip_cov: tokens whose covariance is above this may be taken."""
    covariance_high: float = 5.0
    """clip_cov: and below this."""
    kl_coefficient: Annotated[float, Field(ge=0)] = 1.0
    """kl_cov: weight of |log ratio| on the tokens that are taken."""
    entropy_coefficient: Annotated[float, Field(ge=0)] = 0.003
    """entropy_regularisation: weight of the entropy in the objective (nats)."""
    advantage_coefficient: Annotated[float, Field(ge=0)] = 0.4
    """entropy_advantage: A + min(this * H, |A| / advantage_kappa)."""
    advantage_kappa: Annotated[float, Field(gt=0)] = 2.0
    """entropy_advantage: see advantage_coefficient."""
    epsilon_high: Annotated[float, Field(gt=0)] = 0.28
    """clip_higher: the upper clip range."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, content: Any) -> Any:
        """`method: grpo` is short for `method: {name: grpo}`; a preset fills what is not given."""
        if isinstance(content, str):
            content = {"name": content}
        if isinstance(content, dict) and content.get("name") == "policy_split_stable":
            return {**_STABLE, **content}
        return content

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in METHODS:
            raise ValueError(str(UnknownNameError("method", self.name, METHODS)))
        return self

    @property
    def entropy_weight(self) -> float:
        """Weight of a differentiable entropy term in the objective: of high modes' own responses,
        or of a baseline's."""
        if self.splits:
            return self.entropy_term
        return self.entropy_coefficient if self.name == "entropy_regularisation" else 0.0

    @property
    def splits(self) -> bool:
        """Whether several modes are trained."""
        return self.name not in BASELINES


class TrainSettings(_Section):
    """How long, how much, how fast. A step is one update of the weights."""

    steps: Positive = 300
    """Updates of the weights, in all."""
    queries: Positive = 8
    """Prompts a step, over all processes."""
    rollouts: Annotated[int, Field(ge=2)] = 8
    """Responses a prompt, over all modes; the same number for every method."""
    micro_batch: Positive | None = None
    """Responses a process that are trained at once; None: all of a step. Whole groups in it save
    a pass over the responses."""
    iterations: Positive = 1
    """Updates on the same responses."""
    max_new_tokens: Positive = 256
    """Tokens of a response, at most; a longer one is cut off and wrong."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of drawing responses; log-probabilities are taken at it, too."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of drawing responses; 1: off."""
    top_k: Count = 0
    """Of drawing responses; 0: off."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-6
    """Of AdamW."""
    schedule: str = "constant"
    """transformers' `lr_scheduler_type`."""
    warmup_steps: Count = 0
    """Steps in which the learning rate rises; no supervised stage."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0: not."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Clip range of the importance ratio (PPO)."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL to the start; 0 in the paper."""
    loss: Literal["dapo", "grpo", "bnpo", "dr_grpo"] = "dapo"
    """How token losses are averaged (TRL's loss_type); dapo: over all tokens of a step."""
    gradient_checkpointing: bool = False
    """Less memory for a second forward pass; prefixes are not shared then."""
    share_prefixes: bool = True
    """Run a prompt once for all responses to it, where the model's cache allows."""
    seed: int = 0
    """Of drawing responses and of the order of prompts."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """More of TRL's GRPOConfig, by its names; what psplit sets itself is refused."""


class EngineSettings(_Section):
    """Who draws the responses during training."""

    name: Literal["hf", "vllm_server", "vllm_colocate"] = "hf"
    """transformers in process, TRL's vLLM server, or vLLM in the training's own processes."""
    host: str = "127.0.0.1"
    """vllm_server: where it is."""
    port: Positive = 8000
    """vllm_server: its port."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.3
    """vllm_colocate: the share of a GPU's memory that is vLLM's."""
    tensor_parallel: Positive = 1
    """vllm_colocate: GPUs that share one copy of the weights."""


class KeepSettings(_Section):
    """What else the model is to keep: its own answers to other requests, drawn before the warm-up,
    stand among the examples (self-synthesised rehearsal, arXiv 2403.01244)."""

    requests: Path
    """A text file of requests, one a line."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of the examples that are such answers."""
    max_tokens: Positive = 32
    """Of an answer; of a longer one, its beginning."""


class WarmupSettings(_Section):
    """A supervised stage before: SFT on the task's own worked answers, in every mode's prompt."""

    steps: Count = 0
    """Supervised updates; 0: no such stage."""
    batch: Positive = 64
    """Examples an update, over all processes."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """At its highest: it rises over the first tenth and falls to 0 along a cosine."""
    seed: int = 0
    """Of the examples and of the modes that they stand under."""
    keep: KeepSettings | None = None
    """None: only the task is shown. A language model may then answer all else in its form, too."""
    folder: Path | None = None
    """Where the start is kept, and found by other runs with the same settings; None: in the run's
    own folder."""


class AlarmSettings(_Section):
    """What is called an alarm; measured as a mean over `window` steps. None turns one off."""

    window: Positive = 20
    """Steps that a value is a mean of."""
    entropy_factor: Annotated[float, Field(gt=1)] | None = 4.0
    """Inflation: a mode's entropy above this many times what it was at the start."""
    collapse_share: Fraction | None = 0.5
    """Collapse: a mode's reward below this share of its best window."""
    kl_bits: Annotated[float, Field(gt=0)] | None = 2.0
    """Runaway: KL between a mode and its reference, in bits a token."""
    dead_share: Fraction | None = 0.95
    """Dead: the share of groups whose rewards are all equal."""


class ControllerSettings(_Section):
    """Moves a high mode's eta so that its entropy meets a target."""

    target_bits: Annotated[float, Field(gt=0)]
    """Entropy that the mode is to have, in bits a token."""
    low: Annotated[float, Field(ge=0)] = 0.0
    """Lowest eta."""
    high: Annotated[float, Field(ge=0)] = 1.0
    """Highest eta."""
    rate: Annotated[float, Field(gt=0)] = 0.02
    """Change of eta a step and bit that entropy is below its target."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; exchange them")
        return self


class StabilitySettings(_Section):
    """What is watched, and what is done about it."""

    alarms: AlarmSettings = AlarmSettings()
    """When there is something to say."""
    stop: bool = False
    """An alarm ends training in good order; the last checkpoint before it is the result."""
    controller: ControllerSettings | None = None
    """None: eta stays."""


class CheckpointSettings(_Section):
    """What is kept on the way."""

    every: Positive | None = None
    """Steps; a multiple of train.iterations. None: only at the end."""
    keep: Positive = 2
    """So many of the newest; the best by evaluation stays, and what an alarm may go back to."""


class EvaluateSettings(_Section):
    """psplit_eval on checkpoints."""

    every: Positive | None = None
    """Steps; a multiple of checkpoints.every. None: only at the end."""
    suite: str | None = None
    """A suite of psplit-eval."""
    tasks: tuple[str, ...] = ()
    """Tasks or a suite of psplit-eval; none of both: the held-out prompts."""
    samples: Positive = 8
    """Samples a doc and mode."""
    limit: Positive | None = None
    """Docs a task; None: all."""
    modes: tuple[str, ...] = ()
    """Some of the config's modes; none given: all, trained or not."""
    placebo: bool = False
    """Whether modes are held against each other and against placebos, too (diverge)."""
    metric: str = "accuracy_avg"
    """By which, in the first mode, a checkpoint is the best."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More of psplit-eval run's options, by their names."""


class LogSettings(_Section):
    """What is written on the way; `training_log.jsonl` always is."""

    every: Positive = 1
    """Steps between lines of the log; values are means over them."""
    report_to: tuple[str, ...] = ()
    """tensorboard, wandb, trackio."""
    rollouts_every: Count = 10
    """Steps between the responses that are kept in rollouts/; 0: none."""


class Config(_Section):
    """A whole training run. Sections that are not given have their defaults."""

    model: ModelSettings
    data: DataSettings
    modes: tuple[ModeSettings, ...] = (ModeSettings(name="normal"), ModeSettings(name="high"))
    method: MethodSettings = MethodSettings()
    reward: RewardSettings = RewardSettings()
    train: TrainSettings = TrainSettings()
    engine: EngineSettings = EngineSettings()
    warmup: WarmupSettings = WarmupSettings()
    stability: StabilitySettings = StabilitySettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    evaluate: EvaluateSettings | None = None
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _short(cls, content: Any) -> Any:
        """`modes: [normal, high]` is short for a list of mappings."""
        if isinstance(content, dict) and isinstance(content.get("modes"), list | tuple):
            named = [{"name": m} if isinstance(m, str) else m for m in content["modes"]]
            return {**content, "modes": named}
        return content

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [mode.name for mode in self.modes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"modes {', '.join(names)}: expected at least one, each name once")
        for mode in self.modes:
            if mode.reference is not None and mode.reference not in names:
                raise ValueError(f"mode {mode.name!r}: its reference {mode.reference!r} is no mode")
        count = len(self.trained_modes)
        if self.train.rollouts % count:
            raise ValueError(
                f"train.rollouts {self.train.rollouts}: expected a multiple of the {count} modes"
            )
        return self

    @property
    def trained_modes(self) -> tuple[ModeSettings, ...]:
        """All of a split; the first one of a baseline, which has all rollouts."""
        return self.modes if self.method.splits else self.modes[:1]
