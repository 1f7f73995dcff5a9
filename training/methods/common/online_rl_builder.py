"""Builder of TRL's GRPO and RLOO trainers with our rewards, end tokens and reference."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from training.config.online_rl import Sampling
from training.methods.common.context_check import check_context
from training.methods.common.per_row_loss import disable_dropout
from training.methods.common.reference_model import attach_reference, delete_adapter_copy
from training.rewards.aggregate import CompositeReward
from training.rewards.context import RewardContext
from training.trainer.context import TrainerContext


def build_online_rl(
    trainer: type[Any],
    config: type[Any],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
    **settings: Any,
) -> Any:
    """Return the trainer.

    Args:
        trainer: TRL's trainer with `OnlineRlTrainer` mixed in.
        config: Class of TRL's configuration.
        model: Policy, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of prompts.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
        **settings: Settings of one method alone.

    Raises:
        ModelError: Prompts and answers do not fit the model's context.
    """
    method = setup.job.method
    assert isinstance(method, Sampling)
    context = RewardContext.from_trainer_context(setup)
    rewards = CompositeReward.from_sections(method.reward, context)
    disable_dropout(model)
    built = trainer(
        setup=setup,
        model=model,
        reward_funcs=[_unused_reward] * len(rewards.names),
        args=config(**_trl_settings(method, arguments, rewards), **settings),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    # TRL's RLOO copies the adapter when it is built, even with beta = 0; see `attach_reference`.
    delete_adapter_copy(built.model)
    check_context(setup, built.model, method.max_new_tokens)
    built.composite_reward = rewards
    built.reward_func_names = rewards.names
    # TRL knows the tokenizer's end token only; a chat template may end answers with another.
    end_ids = setup.row_tokenizer.end_ids
    built.eos_token_ids = end_ids
    built.generation_config.eos_token_id = end_ids
    built.generation_kwargs["eos_token_id"] = end_ids
    if method.beta:
        # Set after construction: with beta > 0, TRL's constructor would load the reference by the
        # name of the model, instead of from what training starts from.
        built.beta = method.beta
        attach_reference(built, method.rollout.temperature)
    return built


def _unused_reward(*ignored: Any, **also_ignored: Any) -> list[float]:
    """Stand in for TRL's reward functions, as `CompositeReward` computes all rewards.

    Raises:
        AssertionError: Always.
    """
    raise AssertionError("rewards are computed by CompositeReward")


def _trl_settings(
    method: Sampling, arguments: dict[str, Any], rewards: CompositeReward
) -> dict[str, Any]:
    """Return the settings that TRL's configurations of both methods share."""
    rollout = method.rollout
    return {
        **arguments,
        "beta": 0.0,
        "num_generations": method.num_generations,
        "steps_per_generation": arguments["gradient_accumulation_steps"],
        "max_completion_length": rollout.max_new_tokens,
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": rollout.top_k,
        "reward_weights": rewards.weights,
        "mask_truncated_completions": method.mask_truncated,
        "disable_dropout": False,
        "shuffle_dataset": False,
    }
