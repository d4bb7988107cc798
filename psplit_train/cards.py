"""The model card of a checkpoint: how it was made, what is known of it, and what is not.

It is Markdown with Hugging Face's front matter. What users give (names, prompts, paths) stands in
it as text, never as markup, and paths of this machine by their last name alone.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from psplit_eval import __version__
from psplit_eval.text import markdown_text, visible
from psplit_eval.training_curves import TrainingLog, read_training_log
from psplit_train.config import Config, ModeSettings

__all__ = [
    "Facts",
    "Measured",
    "installed_versions",
    "markdown_table",
    "model_card",
    "source_name",
]

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "vllm", "numpy")
_SPLIT = (
    *("eta", "eta_normal", "alpha", "kappa", "clip_form", "estimate", "normalise"),
    *("lowest_entropy_mask_ratio", "correctness_mask", "sharing", "positive_only"),
    *("target_gap_bits", "truncated_weights", "rarity", "entropy_term"),
)
_OF_METHOD: Mapping[str, tuple[str, ...]] = {
    "policy_split": _SPLIT,
    "policy_split_stable": _SPLIT,
    "forking_tokens": ("top_share",),
    "clip_cov": ("covariance_share", "covariance_low", "covariance_high"),
    "kl_cov": ("covariance_share", "kl_coefficient"),
    "entropy_regularisation": ("entropy_coefficient",),
    "entropy_advantage": ("advantage_coefficient", "advantage_kappa"),
    "clip_higher": ("epsilon_high",),
}
_OF_TRAINING = (
    *("steps", "queries", "rollouts", "iterations", "max_new_tokens", "temperature", "top_p"),
    *("top_k", "learning_rate", "schedule", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("epsilon", "beta", "loss", "seed"),
)
_MEASURES = (("reward", "reward"), ("entropy_bits", "entropy (bits)"), ("kl_bits", "KL (bits)"))
_PART = 10
"""First, best and last are means over one part in so many of the log: single steps are noise."""


@dataclass(frozen=True)
class Measured:
    """One number of an evaluation; NaN where it, or its 95 % interval, is undefined.

    `higher_is_better` None: no value is better than another.
    """

    task: str
    mode: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    higher_is_better: bool | None = None


def installed_versions() -> dict[str, str]:
    """psplit, Python and the libraries that a training's numbers depend on, as installed."""
    found = {"psplit": __version__, "Python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Facts:
    """What a card says beside the settings.

    `step`: updates that were made; `rows` prompts to train on, of the SHA-256 (hex) `sha256`, with
    `held_out` ones set apart and `dropped` ones left out, as they occur in evaluation sets; `log`:
    the training log so far; `alarms`: what the monitor said, a line each; `evaluated`: numbers of
    this very checkpoint.
    """

    step: int
    rows: int
    held_out: int
    dropped: int
    sha256: str
    log: Path | None = None
    alarms: Sequence[str] = ()
    evaluated: Sequence[Measured] = ()
    versions: Mapping[str, str] = field(default_factory=installed_versions)


def source_name(name: str) -> str:
    """A hub id or built-in name as it is; of a path that is there, or is no such name, the last
    part: where it lies is nobody's business."""
    if Path(name).expanduser().exists() or (name.count("/") > 0 and not _HUB_ID.fullmatch(name)):
        return Path(name).expanduser().resolve().name
    return name


def model_card(config: Config, facts: Facts) -> str:
    """README.md of a checkpoint. Raises DataError for a training log that cannot be read."""
    parts = [
        _front_matter(config),
        f"# {markdown_text(_title(config))}",
        _about(config, facts),
        _modes(config),
        _settings(config),
        _data(config, facts),
        _curve(config, facts),
        _alarms(config, facts),
        _evaluated(config, facts),
        _use(config),
        _untested(config, facts),
        _versions(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(config: Config) -> str:
    base, hub = _hub_id(config.model.checkpoint), _hub_id(config.data.hub)
    tags = ["psplit", "trl", "reinforcement-learning", config.method.name.replace("_", "-")]
    content: dict[str, Any] = {
        "library_name": "peft" if config.model.lora else "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base} if base else {}),
        **({"datasets": [hub]} if hub else {}),
        "tags": [*tags, *(["lora"] if config.model.lora else [])],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _hub_id(name: str | None) -> str | None:
    """The name where it can only mean the hub; a card with another base_model is refused there."""
    there = name is not None and Path(name).expanduser().exists()
    return name if name and not there and _HUB_ID.fullmatch(name) else None


def _base(config: Config) -> str:
    if config.model.checkpoint is not None:
        return source_name(config.model.checkpoint)
    return "a tiny model made from nothing"


def _title(config: Config) -> str:
    return f"{_base(config)}, trained by {config.method.name}"


def _about(config: Config, facts: Facts) -> str:
    names = [mode.name for mode in config.trained_modes]
    modes = f"the modes {', '.join(names)}" if len(names) > 1 else f"one mode, {names[0]}"
    warm = config.warmup.steps
    supervised = f", after {warm} supervised steps of warm-up" if warm else ""
    paper = " (Policy Split, arXiv 2604.11510)" if config.method.splits else ""
    kind = "A LoRA adapter" if config.model.lora else "A checkpoint"
    return markdown_text(
        f"{kind} after {facts.step} of {config.train.steps} steps of reinforcement learning with "
        f"verifiable rewards{supervised}, in {modes}. Method: {config.method.name}{paper}. Base: "
        f"{_base(config)}."
    )


def _modes(config: Config) -> str:
    parts = [
        "## Modes",
        "A mode is a way to prompt the one set of weights; `psplit_modes.json` has these for "
        "programs.",
    ]
    for mode in config.trained_modes:
        parts += [f"### {markdown_text(mode.name)}", _mode(config, mode)]
    return "\n\n".join(parts)


def _mode(config: Config, settings: ModeSettings) -> str:
    mode = settings.mode()
    facts = [f"Role: {mode.role}."]
    if config.method.splits:
        usual = config.method.eta if mode.role == "high" else 0.0
        facts.append(f"η: {usual if settings.eta is None else settings.eta:g}.")
    if mode.system_prompt is None:
        return " ".join([*facts, "No system message is sent."])
    return " ".join([*facts, "System message:"]) + f"\n\n{_fenced(mode.system_prompt)}"


def _fenced(text: str) -> str:
    """A block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"


def _settings(config: Config) -> str:
    method = config.method
    rows = [("method", method.name)]
    rows += [(f"method.{n}", _shown(getattr(method, n))) for n in _OF_METHOD.get(method.name, ())]
    rows += [(f"train.{name}", _shown(getattr(config.train, name))) for name in _OF_TRAINING]
    rows += [(f"reward.{name}", _shown(value)) for name, value in config.reward]
    if config.model.lora:
        rows += [(f"model.lora.{name}", _shown(value)) for name, value in config.model.lora]
    if config.model.tiny:
        rows += [(f"model.tiny.{name}", _shown(value)) for name, value in config.model.tiny]
    return "\n\n".join(
        [
            "## Settings",
            *_beyond_the_paper(config),
            markdown_table(("setting", "value"), rows),
        ]
    )


def _beyond_the_paper(config: Config) -> Iterator[str]:
    method = config.method
    if not method.splits:
        return
    options = {
        "rarity": method.rarity,
        "entropy_term": method.entropy_term > 0,
        "target_gap_bits": method.target_gap_bits is not None,
        "truncated_weights": method.truncated_weights is not None,
        "stability.controller": config.stability.controller is not None,
    }
    used = [name for name, on in options.items() if on]
    if used:
        yield f"Not in the paper's method: {markdown_text(', '.join(used))}."


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _data(config: Config, facts: Facts) -> str:
    data = config.data
    if data.task is not None:
        source = f"generated task {data.task}, seed {data.seed}"
    elif data.file is not None:
        source = f"file {data.file.name}"
    else:
        subset = f", subset {data.subset}" if data.subset else ""
        source = f"hub data set {data.hub}{subset}, split {data.split}"
    overlap = f"{facts.dropped} dropped" if data.decontaminate else "not looked for"
    rows = [
        ("source", source),
        ("prompts trained on", f"{facts.rows:,}"),
        ("their SHA-256", facts.sha256),
        ("prompts held out", f"{facts.held_out:,}"),
        ("prompts that share 13 words in a row with an evaluation set", overlap),
    ]
    return f"## Data\n\n{markdown_table(('what', 'value'), rows)}"


def _curve(config: Config, facts: Facts) -> str:
    log = read_training_log(facts.log) if facts.log else None
    modes = [mode.name for mode in config.trained_modes]
    names = list(_told(log, modes)) if log else []
    if log is None or not names:
        return "## Training curve\n\nNothing was logged."
    spans = _spans(log, modes)
    header = ("measure", "mode", *(f"{what}, steps {a:g}–{b:g}" for what, (a, b) in spans.items()))
    rows = [
        (label, line, *(_number(_mean(log, f"{name}/{line}", span)) for span in spans.values()))
        for name, label, line in names
    ]
    note = (
        "Means over a tenth of the log each, of the training's own batches; best is where "
        "the mean reward over modes was highest. `training_log.jsonl` has every step. How good the "
        "modes are, is measured on docs that they were not trained on."
    )
    return "\n\n".join(["## Training curve", note, markdown_table(header, rows)])


def _told(log: TrainingLog, modes: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(name in the log, label, mode or pair of modes) of what the table has."""
    pairs = [f"{a}_{b}" for a in modes for b in modes if a != b]
    for name, label in _MEASURES:
        for line in pairs if name == "kl_bits" else modes:
            if f"{name}/{line}" in log.series:
                yield name, label, line


def _spans(log: TrainingLog, modes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """First and last step of each part that is told of."""
    steps = sorted({step for points in log.series.values() for step, _ in points})
    width = max(1, len(steps) // _PART)
    spans = [(steps[i], steps[i + width - 1]) for i in range(len(steps) - width + 1)]
    rewards = [f"reward/{mode}" for mode in modes if f"reward/{mode}" in log.series]
    found = {"first": spans[0]}
    if rewards:
        found["best"] = max(spans, key=lambda span: _reward(log, rewards, span))
    return found | {"last": spans[-1]}


def _reward(log: TrainingLog, names: Sequence[str], span: tuple[float, float]) -> float:
    """−∞ where nothing was logged: no part without a reward is the best."""
    mean = fmean(_mean(log, name, span) for name in names)
    return -math.inf if math.isnan(mean) else mean


def _mean(log: TrainingLog, name: str, span: tuple[float, float]) -> float:
    low, high = span
    values = [v for s, v in log.series[name] if low <= s <= high and math.isfinite(v)]
    return fmean(values) if values else math.nan


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3g}"


def _alarms(config: Config, facts: Facts) -> str:
    watched = config.stability.alarms
    limits = (watched.entropy_factor, watched.collapse_share, watched.kl_bits, watched.dead_share)
    if facts.alarms:
        said = markdown_table(("alarm",), [(line,) for line in facts.alarms])
    elif any(limit is not None for limit in limits):
        said = "None was raised."
    else:
        said = "All were turned off."
    return f"## Alarms\n\n{said}"


def _evaluated(config: Config, facts: Facts) -> str:
    wanted = {config.evaluate.metric if config.evaluate else "accuracy_avg", "entropy_bits"}
    rows = [
        (each.task, each.mode, each.metric, _number(each.value), _interval(each))
        for each in facts.evaluated
        if each.metric in wanted
    ]
    if not rows:
        return "## Evaluation\n\nThis checkpoint was not evaluated when its card was written."
    header = ("task", "mode", "metric", "value", "95 % interval over docs")
    return f"## Evaluation\n\nBy psplit-eval; fractions and bits.\n\n{markdown_table(header, rows)}"


def _interval(each: Measured) -> str:
    if math.isnan(each.ci_low + each.ci_high):
        return "undefined"
    return f"{_number(each.ci_low)} to {_number(each.ci_high)}"


def _use(config: Config) -> str:
    modes = [mode.name for mode in config.trained_modes]
    opened = "--model FOLDER"
    if config.model.lora:
        opened = "--model BASE --adapter FOLDER"
    template = ""
    if config.model.lora and config.model.chat_template:
        template = " --chat-template FOLDER/chat_template.jinja"
    command = f"psplit-eval run {opened}{template} --modes {','.join(modes)} --suite quick"
    base = ", BASE the checkpoint that it was trained on" if config.model.lora else ""
    return "\n\n".join(
        [
            "## Use",
            f"FOLDER is where this card lies{base}. To measure and compare the modes:",
            f"```sh\n{command}\n```",
            f"To ask it in the mode {markdown_text(modes[-1])}:",
            f"```python\n{_snippet(config, modes[-1])}\n```",
        ]
    )


def _snippet(config: Config, mode: str) -> str:
    train, thinking = config.train, config.model.enable_thinking
    told = "" if thinking is None else f", enable_thinking={thinking}"
    sampling = f"temperature={train.temperature:g}, top_p={train.top_p:g}, top_k={train.top_k}"
    return f'''import json
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(".")
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
modes = json.loads((folder / "psplit_modes.json").read_text(encoding="utf-8"))["modes"]
prompt = {{mode["name"]: mode["system_prompt"] for mode in modes}}[{mode!r}]
messages = [{{"role": "system", "content": prompt}}] if prompt is not None else []
messages.append({{"role": "user", "content": "1 + 1 = ?"}})
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{told}
)
answer = model.generate(
    **inputs, do_sample=True, {sampling}, max_new_tokens={train.max_new_tokens}
)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'''


def _untested(config: Config, facts: Facts) -> str:
    """What nobody should take for granted."""
    split = [
        "System messages other than those above: whether a reworded one has the same effect was "
        "not measured.",
        "Whether the modes differ by more than neutral system messages of equal length make them "
        "differ: `psplit-eval run` measures that.",
    ]
    items = [
        "Harmful, biased or untrue output: training rewarded right answers to its own prompts, and "
        "nothing else.",
        "Other kinds of prompts and other languages than those trained on, conversations of "
        f"several turns, and responses of more than {config.train.max_new_tokens} tokens.",
        "The spread over seeds: this is one training, of one seed.",
        *(split if config.method.splits and len(config.trained_modes) > 1 else []),
        *([] if config.data.decontaminate else ["Overlap with evaluation sets."]),
        *([] if facts.evaluated else ["Prompts that it was not trained on."]),
    ]
    return "\n".join(["## Not tested", "", *(f"- {item}" for item in items)])


def _versions(facts: Facts) -> str:
    rows = list(facts.versions.items())
    return f"## Versions\n\n{markdown_table(('software', 'version'), rows)}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of GitHub's Markdown; nothing in its cells is markup."""
    lines = [list(map(markdown_text, header)), ["---"] * len(header)]
    lines += [[markdown_text(visible(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
