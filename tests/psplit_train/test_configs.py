"""The config files that come with psplit: each can be read, and says what the paper says."""

from pathlib import Path

import pytest
import yaml

from psplit_train.checks import check_config, holds_groups
from psplit_train.config import METHODS
from psplit_train.loading import read_config

CONFIGS = Path(__file__).parents[2] / "configs"
LAUNCHERS = sorted((CONFIGS / "accelerate").glob("*.yaml"))
FILES = sorted(set(CONFIGS.rglob("*.yaml")) - set(LAUNCHERS))
PAPER = {"1.7b": "Qwen/Qwen3-1.7B", "4b": "Qwen/Qwen3-4B", "8b": "Qwen/Qwen3-8B"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_read_without_a_warning(path):
    assert check_config(read_config(path), 8 if path.parent.name == "paper" else 1) == []


@pytest.mark.parametrize("size", PAPER)
def test_settings_of_the_paper(size):
    # arXiv 2604.11510, Tables 8 and 9.
    config = read_config(CONFIGS / "paper" / f"qwen3_{size}.yaml")
    train, method = config.train, config.method
    assert config.model.checkpoint == PAPER[size]
    assert config.model.enable_thinking is True
    assert config.model.lora is None
    assert (config.data.hub, config.data.limit) == ("zwhe99/DeepMath-103K", 20_000)
    assert train.steps == config.data.limit // train.queries == 78  # one epoch
    assert (train.queries, train.rollouts, train.max_new_tokens) == (256, 8, 12_288)
    assert (train.temperature, train.top_p, train.top_k) == (1.0, 1.0, 0)
    assert (train.learning_rate, train.schedule, train.warmup_steps) == (3e-6, "constant", 0)
    assert (train.weight_decay, train.max_grad_norm) == (0.01, 1.0)
    assert (train.epsilon, train.beta, train.iterations) == (0.2, 0.0, 1)
    assert method.name == "policy_split"
    assert (method.eta, method.alpha, method.kappa) == (0.03, 0.5, 2.0)
    assert (method.sharing, method.clip_form, method.eta_normal) == ("on", "code", 0.0)
    assert config.stability.stop is False


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_one_option_away(method):
    published = read_config(CONFIGS / "paper" / "qwen3_1.7b.yaml")
    config = read_config(CONFIGS / "paper" / "qwen3_1.7b.yaml", [f"method={method}"])
    assert config.method.name == method
    assert config.train == published.train
    # Section 3 of the paper: top 20 %; 0.0002 in [1, 5]; 0.003; min(0.4 H, |A| / 2)
    assert config.method.top_share == 0.2
    assert config.method.covariance_share == 0.0002
    assert (config.method.covariance_low, config.method.covariance_high) == (1, 5)
    assert config.method.entropy_coefficient == 0.003
    assert (config.method.advantage_coefficient, config.method.advantage_kappa) == (0.4, 2)


def test_the_stable_preset_differs_where_it_says():
    stable = read_config(CONFIGS / "paper" / "stable.yaml")
    published = read_config(CONFIGS / "paper" / "qwen3_1.7b.yaml")
    method = stable.method
    assert (method.eta, method.eta_normal, method.alpha) == (0.35, 0.25, 1)
    assert method.target_gap_bits == 0.35
    assert (method.kappa, method.truncated_weights) == (0, 1)
    assert stable.stability.stop
    assert stable.train == published.train
    assert stable.data == published.data


def test_the_smallest_model_trains_whole_groups_at_once():
    assert holds_groups(read_config(CONFIGS / "paper" / "qwen3_1.7b.yaml"), 8)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_accelerate_knows_every_key_of_its_files(path):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    loaded = load_config_from_file(str(path))  # refuses names that it does not know
    assert loaded.num_processes == 8
    assert loaded.mixed_precision == "bf16"
    options = {action.dest for action in launch_command_parser()._actions}
    content = yaml.safe_load(path.read_text())
    inside = {**content.get("fsdp_config", {}), **content.get("deepspeed_config", {})}
    assert set(inside) <= options


def test_launchers_are_of_the_kinds_that_their_names_say():
    kinds = {path.stem: yaml.safe_load(path.read_text())["distributed_type"] for path in LAUNCHERS}
    assert kinds == {"ddp": "MULTI_GPU", "deepspeed_zero3": "DEEPSPEED", "fsdp2": "FSDP"}
