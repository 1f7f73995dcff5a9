"""The thirteen points in which mistakes in PPO raise no error, and the test of each.

Most tests are next to the code of their point; this file has the others.
"""

from __future__ import annotations

import copy
import importlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers import LlamaForSequenceClassification as Scorer

from tests.factories import docstrings
from training.config.ppo import Ppo
from training.config.rewards import ModelReward
from training.data.schema.rows import PromptRow
from training.errors import GuardError
from training.methods.ppo.actor_critic import ActorCritic, ReferencePolicy
from training.methods.ppo.advantages import gae
from training.methods.ppo.critic import SeparateCritic
from training.methods.ppo.rollout import RolloutBatch, Transition
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.trainer import PpoTrainer
from training.models.fused_log_probs import add_next_token_log_probs
from training.models.generate import uniforms
from training.models.tokenizer import train_tokenizer
from training.rewards import model as model_reward
from training.rewards.aggregate import CompositeReward
from training.rewards.context import RewardContext

MATHS, ROLLOUT, STOP = (
    f"tests.unit.methods.test_ppo_{name}" for name in ("maths", "rollout", "stop_rules")
)
RUNS, HERE = "tests.invariant.test_ppo", "tests.unit.methods.test_ppo_trainer"
POINTS = {
    "1 actions by length, the end included, the score on the last": (
        f"{ROLLOUT}:test_an_answer_ends_with_its_end_token_even_if_it_is_also_padding",
        f"{ROLLOUT}:test_labels_are_the_answers_in_the_order_of_their_values",
        f"{MATHS}:test_score_is_added_to_the_last_action_and_kl_is_subtracted_from_each",
    ),
    "2 truncated answers are distinguished": (
        f"{ROLLOUT}:test_truncated_answers_can_be_excluded",
        f"{HERE}:test_a_truncated_answer_gets_a_penalty",
    ),
    "3 old log-probabilities computed again, at the temperature, ratio 1": (
        f"{HERE}:test_log_probabilities_are_those_of_the_sampling_temperature",
        f"{HERE}:test_a_first_ratio_other_than_1_stops_the_run",
        f"{RUNS}:test_the_policy_learns_and_its_critic_with_it",
    ),
    "4 k1 and k3, fixed and adaptive coefficient, ceiling": (
        f"{MATHS}:test_estimators_have_the_divergence_as_their_mean",
        f"{MATHS}:test_a_fixed_coefficient_is_constant",
        f"{MATHS}:test_the_coefficient_follows_the_error",
        f"{MATHS}:test_the_controller_resumes_from_its_state",
        f"{RUNS}:test_a_policy_beyond_its_ceiling_stops_the_run",
    ),
    "5 advantages over actions, returns unwhitened, whitening global": (
        f"{MATHS}:test_gae_skips_positions_without_actions",
        f"{MATHS}:test_whitening_covers_only_the_mask",
        f"{HERE}:test_returns_are_taken_before_advantages_are_whitened",
    ),
    "6 a mean over the actions of the step": (
        f"{RUNS}:test_micro_batches_change_nothing",
        f"{RUNS}:test_two_processes_take_the_steps_of_one",
    ),
    "7 value clipping, rate and warm-up of the critic, explained variance": (
        f"{MATHS}:test_clipped_value_loss",
        f"{MATHS}:test_explained_variance",
        f"{RUNS}:test_the_critic_warms_up_alone",
    ),
    "8 the reference is the initial model": (
        f"{HERE}:test_a_reference_other_than_the_initial_policy_stops_the_run",
        f"{RUNS}:test_adapters_share_one_backbone",
    ),
    "9 one backbone": (
        f"{RUNS}:test_adapters_share_one_backbone",
        f"{RUNS}:test_activations_computed_twice_are_those_of_the_same_adapter",
    ),
    "10 a reward model with another tokenizer": (
        f"{HERE}:test_a_reward_model_reads_text_in_its_own_tokens",
    ),
    "11 an exact resume": (f"{RUNS}:test_resumed_within_a_round_ends_with_the_same_bits",),
    "12 rules that stop": (
        f"{STOP}:test_each_rule_names_itself",
        f"{STOP}:test_a_falling_reward_at_a_growing_kl_stops_the_run",
        f"{RUNS}:test_answers_that_are_all_worth_the_same_stop_the_run",
    ),
    "13 feedback from principles": (
        "tests.invariant.test_constitutional:test_one_command_trains_an_aligned_model_from_prompts",
    ),
}


@pytest.mark.parametrize("point", POINTS)
def test_each_point_has_its_tests(point: str) -> None:
    for name in POINTS[point]:
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(module), function, None)), name
    assert len(POINTS) == 13


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    add_next_token_log_probs(model)
    return model.eval()


def sampler(policy: Any, tiny_model: Path, **rollout: Any) -> RolloutSampler:
    """Return a sampler whose reward counts vowels and whose answers have at most six tokens."""
    reward = {"kind": "regex_count", "pattern": "[aeiou]"}
    document = {"kind": "ppo", "reward": reward, "rollout": {"max_new_tokens": 6, **rollout}}
    method = TypeAdapter(Ppo).validate_python(document)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    temperature = method.rollout.temperature
    return RolloutSampler(
        method=method,
        model=ActorCritic(policy, SeparateCritic(copy.deepcopy(policy)), temperature),
        reference=ReferencePolicy(policy, temperature, copy.deepcopy(policy)),
        rewards=CompositeReward.from_sections(
            method.reward, RewardContext(torch.device("cpu"), Path())
        ),
        tokenizer=tokenizer,
        end_ids=[tokenizer.eos_token_id],
        micro_batch_size=2,
        gathered_weights=nullcontext,
        autocast=nullcontext,
    )


def sample(sampler: RolloutSampler) -> list[Transition]:
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
    rows = [PromptRow(f"r:{number}", "p", None, {}) for number in range(len(prompts))]
    return sampler.sample_transitions(prompts, rows, uniforms([3], range(len(prompts)), 6))


def test_a_truncated_answer_gets_a_penalty(policy: Any, tiny_model: Path) -> None:
    plain = sample(sampler(policy, tiny_model))
    penalized = sample(sampler(policy, tiny_model, truncated_penalty=0.75))
    assert any(not one.ended for one in plain)
    for one, other in zip(plain, penalized, strict=True):
        assert one.answer_ids == other.answer_ids
        assert one.score - other.score == (0.0 if one.ended else 0.75)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_sampling_temperature(
    policy: Any, tiny_model: Path, temperature: float
) -> None:
    for one in sample(sampler(policy, tiny_model, temperature=temperature)):
        ids = torch.tensor([[*one.prompt_ids, *one.answer_ids]])
        with torch.no_grad():
            logits = policy(ids).logits[0, len(one.prompt_ids) - 1 : -1].float() / temperature
        expected = logits.log_softmax(-1).gather(1, ids[0, len(one.prompt_ids) :, None])[:, 0]
        assert one.old_log_probs.dtype == torch.float32
        assert torch.allclose(one.old_log_probs, expected, atol=1e-5)
        assert torch.allclose(one.reference_log_probs, expected, atol=1e-5)


def trainer() -> Any:
    """Return a stand-in for a trainer with what its checks read."""
    job = SimpleNamespace(precision="fp32")
    return SimpleNamespace(setup=SimpleNamespace(job=job), state=SimpleNamespace(global_step=8))


def test_a_first_ratio_other_than_1_stops_the_run() -> None:
    PpoTrainer._check_first_ratio(trainer(), 1e-5)
    for off in (0.01, float("nan")):
        with pytest.raises(GuardError, match=r"step 9: .*the ratio should be 1"):
            PpoTrainer._check_first_ratio(trainer(), off)


def test_a_reference_other_than_the_initial_policy_stops_the_run() -> None:
    PpoTrainer._check_reference(trainer(), {"kl_token": 1e-6}, 0)
    PpoTrainer._check_reference(trainer(), {"kl_token": 2.0}, 1)
    with pytest.raises(GuardError, match=r"before its first step the policy is 0\.02 nats"):
        PpoTrainer._check_reference(trainer(), {"kl_token": 0.02}, 0)


def test_returns_are_taken_before_advantages_are_whitened(policy: Any, tiny_model: Path) -> None:
    transitions = sample(sampler(policy, tiny_model))
    rollout = RolloutBatch.from_transitions(
        transitions, kl_coefficient=0.1, gamma=1.0, lam=0.95, drop_truncated=False
    )
    acted = rollout.action_mask
    rewards = torch.zeros_like(rollout.old_log_probs)
    for row, one in enumerate(transitions):
        nats = one.old_log_probs - one.reference_log_probs
        rewards[row, : len(nats)] = -0.1 * nats
        rewards[row, len(nats) - 1] += one.score
    advantages, returns = gae(rewards, rollout.values, acted, gamma=1.0, lam=0.95)
    assert torch.allclose(rollout.returns, returns, atol=1e-6)
    counted = rollout.advantages[acted.bool()]
    assert abs(float(counted.mean())) < 1e-6
    assert float(counted.var(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert not torch.allclose(rollout.advantages, advantages, atol=1e-3)


def test_a_reward_model_reads_text_in_its_own_tokens(tiny_model: Path, tmp_path: Path) -> None:
    train_tokenizer((text.upper() for _, text in docstrings()), 290, tmp_path)
    own, theirs = (AutoTokenizer.from_pretrained(path) for path in (tmp_path, tiny_model))
    answer = "Return a copy of the string."
    assert own(answer)["input_ids"] != theirs(answer)["input_ids"]
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_labels": 1}
    config = LlamaConfig(vocab_size=len(own), pad_token_id=own.pad_token_id, **shape, **heads)
    Scorer(config).save_pretrained(tmp_path)
    section = ModelReward(kind="model", source=str(tmp_path))
    reward = model_reward.build(section, RewardContext(torch.device("cpu"), tmp_path))
    (found,) = reward.score(["What is x?"], [answer], [PromptRow("r", "p", None, {})])
    ids = own("What is x?\n")["input_ids"]
    ids += [*own(answer, add_special_tokens=False)["input_ids"], own.eos_token_id]
    with torch.no_grad():
        expected = float(Scorer.from_pretrained(tmp_path).eval()(torch.tensor([ids])).logits)
    assert found == pytest.approx(expected, abs=1e-5)
