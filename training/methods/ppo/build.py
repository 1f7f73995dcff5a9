"""Builder of the PPO trainer with its policy, critic, reference and rewards."""

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
from training.methods.common.reference_model import load_reference_model
from training.methods.ppo.actor_critic import ActorCritic, ReferencePolicy
from training.methods.ppo.critic import SeparateCritic, SharedBackboneCritic
from training.methods.ppo.sampler import RolloutSampler
from training.methods.ppo.trainer import PpoTrainer
from training.rewards.aggregate import CompositeReward
from training.rewards.context import RewardContext
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
        model: Policy, with its adapter if the job has one.
        tokenizer: Tokenizer, which decodes answers and is saved with the model.
        rows: Not used: PPO reads prompts from `setup.table`.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.

    Raises:
        ModelError: Prompts and answers do not fit the model's context, or a reward model cannot be
            used.
    """
    method = setup.job.method
    assert isinstance(method, Ppo)
    check_context(setup, model, method.max_new_tokens)
    critic = _build_critic(model, method, setup)
    # Before the trainer: a reward model that shares the backbone adds an adapter to the policy,
    # which the engine has to wrap and shard with it.
    context = RewardContext.from_trainer_context(setup, model)
    rewards = CompositeReward.from_sections(method.reward, context)
    actor_critic = ActorCritic(model, critic, method.rollout.temperature)
    trainer = PpoTrainer(
        setup=setup,
        model=actor_critic,
        args=TrainingArguments(**arguments),
        processing_class=tokenizer,
    )
    trainer.sampler = RolloutSampler(
        method=method,
        model=actor_critic,
        reference=_build_reference(model, trainer),
        rewards=rewards,
        tokenizer=tokenizer,
        end_ids=_end_ids(model, setup),
        micro_batch_size=setup.micro_batch_size,
        gathered_weights=partial(_gathered_weights, trainer),
        autocast=trainer.compute_loss_context_manager,
    )
    return trainer


def _build_critic(policy: Any, method: Ppo, setup: TrainerContext) -> nn.Module:
    backbone = method.critic.backbone
    can_share = isinstance(policy, PeftModel) and not policy.active_peft_config.is_prompt_learning
    if backbone == "shared" or (backbone == "auto" and can_share and method.critic.source is None):
        return SharedBackboneCritic(policy)
    return SeparateCritic(setup.load_initial_model())


def _build_reference(policy: Any, trainer: PpoTrainer) -> ReferencePolicy:
    """Return the initial policy: the policy without its new adapter, or a frozen copy."""
    frozen = load_reference_model(trainer.setup)
    if frozen is not None and trainer.is_deepspeed_enabled:
        frozen = prepare_deepspeed(frozen, trainer.accelerator)
    elif frozen is not None:
        frozen.to(trainer.setup.world.device)
    return ReferencePolicy(policy, trainer.method.rollout.temperature, frozen)


def _end_ids(policy: Any, setup: TrainerContext) -> list[int]:
    """Return the tokens that end an answer: those of tokenizer, chat template and model."""
    end_ids = set(setup.row_tokenizer.end_ids)
    own = policy.generation_config.eos_token_id
    return sorted(end_ids | ({own} if isinstance(own, int) else set(own or ())))


@contextmanager
def _gathered_weights(trainer: PpoTrainer) -> Iterator[None]:
    """Gather the policy's weights on every device for the time of sampling, under ZeRO 3.

    Otherwise every decoding step would gather every layer again, and processes whose answers have
    ended would have to keep step. The engine's hooks, which gather and release layers, are removed
    meanwhile, or they would release weights that are still needed.
    """
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
