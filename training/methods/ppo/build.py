"""Put together what PPO needs: policy, critic, reference, rewards, and the trainer of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments
from trl.models.utils import add_hooks, prepare_deepspeed, remove_hooks

from training.config.ppo import Ppo
from training.methods.common.context_check import check_context
from training.methods.common.reference_model import second_model
from training.methods.ppo.actor_critic import ActorCritic, ReferencePolicy
from training.methods.ppo.critic import SeparateCritic, SharedBackboneCritic
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.trainer import PpoTrainer
from training.rewards.aggregate import CompositeReward
from training.rewards.base import RewardContext
from training.trainer.context import TrainerContext


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> PpoTrainer:
    """Return the trainer.

    Args:
        model: The policy, with its adapter, if any.
        tokenizer: Writes answers out.
        rows: Prompts; the loop reads the table instead.
        arguments: Transformers' training arguments.
        setup: What the loop needs.

    Raises:
        ModelError: Prompts and answers do not fit the model's context, or a reward model is none.
    """
    method = setup.job.method
    assert isinstance(method, Ppo)
    check_context(setup, model, method.max_new_tokens)
    critic = _critic(model, method, setup)
    # Before the trainer: what a reward adds to the policy is sharded with it.
    rewards = CompositeReward.from_sections(
        method.reward, RewardContext.from_trainer_context(setup, model)
    )
    both = ActorCritic(model, critic, method.rollout.temperature)
    trainer = PpoTrainer(
        setup=setup,
        model=both,
        args=TrainingArguments(**arguments),
        processing_class=tokenizer,
    )
    trainer.speaker = RolloutSampler(
        method=method,
        model=both,
        reference=_reference(model, trainer),
        rewards=rewards,
        tokenizer=tokenizer,
        end_ids=_end_ids(model, setup),
        micro_batch_size=setup.micro_batch_size,
        speaking=partial(_whole, trainer),
        computing=trainer.compute_loss_context_manager,
    )
    return trainer


def _critic(policy: Any, method: Ppo, setup: TrainerContext) -> nn.Module:
    wanted = method.critic.backbone
    can_share = isinstance(policy, PeftModel) and not policy.active_peft_config.is_prompt_learning
    if wanted == "shared" or (wanted == "auto" and can_share and method.critic.source is None):
        return SharedBackboneCritic(policy)
    return SeparateCritic(setup.load_initial_model())


def _reference(policy: Any, trainer: PpoTrainer) -> ReferencePolicy:
    """Return what the policy starts from: itself without its new adapter, or a frozen copy."""
    frozen = second_model(trainer.setup)
    if frozen is not None and trainer.is_deepspeed_enabled:
        frozen = prepare_deepspeed(frozen, trainer.accelerator)
    elif frozen is not None:
        frozen.to(trainer.setup.world.device)
    return ReferencePolicy(policy, trainer.method.rollout.temperature, frozen)


def _end_ids(policy: Any, setup: TrainerContext) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's, the template's, the model's own."""
    ends = set(setup.row_tokenizer.end_ids)
    own = policy.generation_config.eos_token_id
    return sorted(ends | ({own} if isinstance(own, int) else set(own or ())))


@contextmanager
def _whole(trainer: PpoTrainer) -> Iterator[None]:
    """Have all weights of the policy on every device while it speaks, under ZeRO 3."""
    if trainer.setup.job.sharding.zero != 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(trainer.trained_model.parameters())):
        remove_hooks(trainer.model_wrapped)
        try:
            yield
        finally:
            add_hooks(trainer.model_wrapped)
