"""A config as TRL's GRPOConfig."""

import math

import pytest

from psplit_eval.errors import UsageError
from psplit_train.config import Config
from psplit_train.grpo import grpo_config


def config(**sections):
    return Config(**{"model": {"tiny": {}}, "data": {"task": "sums"}} | sections)


def test_batches_of_all_processes_make_a_step(tmp_path):
    train = {"queries": 8, "rollouts": 6, "micro_batch": 12, "iterations": 2, "steps": 10}
    found = grpo_config(config(train=train), tmp_path)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (12, 4)
    assert (found.num_generations, found.num_iterations, found.max_steps) == (6, 2, 10)
    assert found.generation_batch_size == 48
    assert found.steps_per_generation == 4


def test_published_settings_arrive(tmp_path):
    """Tables 8 and 9 of arXiv 2604.11510."""
    found = grpo_config(config(), tmp_path)
    assert (found.learning_rate, found.weight_decay, found.max_grad_norm) == (3e-6, 0.01, 1.0)
    assert (found.temperature, found.top_p, found.top_k) == (1.0, 1.0, 0)
    assert (found.epsilon, found.epsilon_high, found.beta) == (0.2, None, 0.0)
    assert (found.loss_type, found.lr_scheduler_type) == ("dapo", "constant")
    assert found.disable_dropout


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [("clip_higher", 0.2, 0.28), ("kl_cov", math.inf, None), ("clip_cov", 0.2, None)],
)
def test_methods_that_are_a_clip_range(method, low, high, tmp_path):
    found = grpo_config(config(method=method), tmp_path)
    assert (found.epsilon, found.epsilon_high) == (low, high)


def test_more_of_trls_settings_may_be_given_but_not_psplits_own(tmp_path):
    assert grpo_config(config(train={"trl": {"delta": 5.0}}), tmp_path).delta == 5.0
    with pytest.raises(UsageError, match="'learning_rate': psplit sets it"):
        grpo_config(config(train={"trl": {"learning_rate": 1.0}}), tmp_path)
    with pytest.raises(UsageError, match="did you mean 'delta'"):
        grpo_config(config(train={"trl": {"delt": 1.0}}), tmp_path)


def test_an_engine_is_vllms(tmp_path):
    engine = {"name": "vllm_server", "host": "there", "port": 9}
    found = grpo_config(config(engine=engine), tmp_path)
    assert (found.use_vllm, found.vllm_mode) == (True, "server")
    assert (found.vllm_server_host, found.vllm_server_port) == ("there", 9)
