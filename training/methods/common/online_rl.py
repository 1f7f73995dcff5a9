"""Trainer mixin of GRPO and RLOO: answers are sampled, rewarded and learned from in each step.

TRL's trainers sample in the middle of a step, from random generators whose state a resume would
have to restore. Here the answers of a complete step are sampled before its first micro-batch, from
a generator seeded by the job's seed, the step and the process: a resumed run samples the same
answers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather
from torch.utils.data import DataLoader
from transformers import Trainer
from trl.trainer.utils import split_tensor_dict

from training.data.schema.rows import PromptRow
from training.methods.common.per_row_loss import local_metrics
from training.methods.common.reference_model import check_reference_gap
from training.methods.common.rollout_log import LoggedAnswer, RolloutLog
from training.rewards.aggregate import CompositeReward
from training.rewards.repetition import repeated_share
from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.grouped_order import GroupedBatchSampler
from training.trainer.metrics import Sums, means
from training.trainer.seed import preserve_rng_state

_TRL_METRICS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "answer_tokens": "completions/mean_length",
    "flat_groups": "frac_reward_zero_std",
}
"""Names of TRL's metrics of a step's answers, by ours."""
_NGRAM = 3
_LOGGED_PER_STEP = 2


class OnlineRlTrainer(ExactTrainerMixin):
    """Mixin for TRL's GRPO or RLOO trainer.

    Attributes:
        composite_reward: Weighted sum of the job's rewards.
    """

    composite_reward: CompositeReward
    _prompt_ids: Sequence[list[int]] = ()
    _sampling_seconds = 0.0
    _answers_per_prompt_argument: tuple[int, ...] = ()
    """Further arguments of the parent's sampling function, if it takes the group size."""

    # Attributes of TRL's trainer.
    processing_class: Any
    reward_weights: torch.Tensor
    eos_token_ids: list[int]
    _metrics: Any
    _generate_and_score_completions: Any
    _get_per_token_logps_and_entropies: Any
    _compute_loss: Any

    # --- a step's answers -------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's prompts, each repeated for every answer of its group."""
        setup = self.setup
        batches = GroupedBatchSampler(
            setup.order,
            rank=setup.world.rank,
            world_size=setup.world.size,
            micro_batch_size=setup.micro_batch_size,
        )
        return DataLoader(self.train_rows, batch_sampler=batches, collate_fn=self.batch_collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Sample the answers of a step and return its micro-batches, with their advantages.

        Args:
            epoch_iterator: Batches of prompts.
            num_batches: Micro-batches of the step.
            device: Device of the batches; not used.
        """
        prompt_batches = [next(epoch_iterator) for _ in range(num_batches)]
        step = int(self.state.global_step)
        self.model.train()
        with preserve_rng_state():
            torch.manual_seed(_sampling_seed(self.setup, step))
            answers = self._sample_and_score(prompt_batches)
        if step == 0 and "ref_per_token_logps" in answers:
            self._check_reference(answers)
        micro_batches = split_tensor_dict(answers, num_batches)
        for micro_batch, prompts in zip(micro_batches, prompt_batches, strict=True):
            tokens = int(micro_batch["completion_mask"].sum())
            micro_batch["row_ids"] = prompts["row_ids"]
            micro_batch["num_tokens"] = tokens + int(micro_batch["prompt_mask"].sum())
            self.count_tokens(micro_batch["num_tokens"], tokens)
        return micro_batches, None

    def _sample_and_score(self, prompt_batches: list[Any]) -> dict[str, Any]:
        """Return TRL's batch of the step's answers, and note its metrics."""
        self._prompt_ids = [ids for batch in prompt_batches for ids in batch["prompt_ids"]]
        rows = [row for batch in prompt_batches for row in batch["prompt_rows"]]
        inputs = [{"prompt": row.prompt, "row": row} for row in rows]
        answers: dict[str, Any] = self._generate_and_score_completions(inputs)
        trl = {name: values[-1] for name, values in self._metrics["train"].items() if values}
        self._metrics["train"].clear()
        self.extra |= {ours: trl[name] for ours, name in _TRL_METRICS.items() if name in trl}
        for name in self.composite_reward.names:
            self.extra[f"reward_{name}"] = trl[f"rewards/{name}/mean"]
        self.extra["sampling_seconds"] = self._sampling_seconds
        self.extra["ended"] = 1.0 - trl["completions/clipped_ratio"]
        if "kl" in trl:
            self.extra["kl_token"] = trl["kl"]
            self.extra["kl"] = trl["kl"] * self.extra["answer_tokens"]
        return answers

    def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
        """Return what TRL's trainer samples, and measure the time."""
        began = time.monotonic()
        sampled = super()._generate_single_turn(*arguments, **named)  # type: ignore[misc]  # TRL's
        self._sampling_seconds = time.monotonic() - began
        return sampled

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Sequence[list[int]], None, Any]:
        """Return the token ids of the prompts, which were tokenized with the data."""
        return self._prompt_ids, None, {}

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: list[Any], completion_ids_list: Any
    ) -> torch.Tensor:
        """Return each reward of the answers of all processes, [answers, rewards]."""
        texts = [_completion_text(answer) for answer in completions]
        scores = self.composite_reward.score(prompts, texts, [row["row"] for row in inputs])
        for text in texts:
            self.add_metric("repetition", repeated_share(text, _NGRAM), 1)
        ended = [bool(ids) and ids[-1] in self.eos_token_ids for ids in completion_ids_list]
        self._log_answers(prompts, texts, scores.total, ended)
        mine = torch.tensor(list(zip(*scores.each.values(), strict=True)), dtype=torch.float32)
        gathered: torch.Tensor = gather(mine.to(self.accelerator.device))
        totals = (gathered * self.reward_weights.to(gathered.device)).sum(1)
        self.composite_reward.check_varies(
            float(totals.min()), float(totals.max()), int(self.state.global_step) + 1
        )
        return gathered

    def _log_answers(
        self, prompts: list[Any], texts: list[str], rewards: list[float], ended: list[bool]
    ) -> None:
        """Log the first answer to each of the first prompts of a step."""
        group = self.setup.job.method.answers_per_prompt
        self._rollout_log.append(
            int(self.state.global_step),
            [
                LoggedAnswer(prompts[i], texts[i], rewards[i], kl=None, ended=ended[i])
                for i in range(0, len(texts), group)[:_LOGGED_PER_STEP]
            ],
        )

    @property
    def _rollout_log(self) -> RolloutLog:
        return RolloutLog(self.setup.folder, self.setup.world.is_main_process)

    def on_engine_ready(self, number: int) -> None:
        """Drop the logged answers of the steps that a resumed run takes again."""
        self._rollout_log.truncate(number)

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Return a micro-batch on its device; TRL would sample its answers here."""
        return Trainer._prepare_inputs(self, inputs)

    # --- the loss ---------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return TRL's loss of a micro-batch.

        Args:
            model: Policy, wrapped by its engine.
            inputs: Micro-batch of answers with their advantages.
            return_outputs: Not used.
            num_items_in_batch: Not used: TRL normalizes by what it has stored with the answers.
        """
        # A tensor: reading it here would make the host wait for the device in each micro-batch.
        tokens = inputs["completion_mask"].sum()
        with local_metrics(self) as metrics:
            loss: torch.Tensor = self._compute_loss(model, inputs)
        self.add_metric("entropy", metrics["entropy"] * tokens, tokens)
        if "kl" in metrics:
            self.add_metric("kl_token", metrics["kl"] * tokens, tokens)
            self.add_metric("kl", metrics["kl"] * tokens, len(inputs["completion_mask"]))
        return loss

    def _check_reference(self, answers: dict[str, Any]) -> None:
        """Check that the reference equals the policy before the first step."""
        width = answers["completion_ids"].size(1)
        ids = torch.cat([answers["prompt_ids"], answers["completion_ids"]], dim=1)
        mask = torch.cat([answers["prompt_mask"], answers["completion_mask"]], dim=1)
        with torch.no_grad(), preserve_rng_state():
            policy, _, _ = self._get_per_token_logps_and_entropies(
                self.model, ids, mask, width, self.setup.micro_batch_size
            )
        answer_mask = answers["completion_mask"]
        gaps = (policy - answers["ref_per_token_logps"]).abs() * answer_mask
        check_reference_gap(float((gaps.sum(1) / answer_mask.sum(1)).max()))

    # --- held-out prompts -------------------------------------------------------------------

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out prompts, with one sampled answer to each."""
        rows: list[PromptRow] = batch["prompt_rows"]
        # A process without prompts samples a dummy answer: under ZeRO 3, generation gathers
        # weights in every step, which takes all processes.
        self._prompt_ids = batch["prompt_ids"] or [[self.eos_token_ids[0]]]
        torch.manual_seed(_sampling_seed(self.setup, 0))
        with local_metrics(self):
            ids = self._generate_single_turn(
                self._prompt_ids, None, {}, *self._answers_per_prompt_argument
            )
        ids = ids[0] if isinstance(ids, tuple) else ids
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)[: len(rows)]
        scores = self.composite_reward.score([row.prompt for row in rows], texts, rows)
        count = len(rows)
        ended = sum(bool(answer) and answer[-1] in self.eos_token_ids for answer in ids[:count])
        sums: Sums = {"reward": (sum(scores.total), count)}
        sums |= {f"reward_{name}": (sum(values), count) for name, values in scores.each.items()}
        return sums | {
            "answer_tokens": (sum(len(answer) for answer in ids[:count]), count),
            "ended": (ended, count),
            "repetition": (sum(repeated_share(text, _NGRAM) for text in texts), count),
        }

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means; `loss` is the negative reward, so that lower is better."""
        metrics = means(sums)
        return {"loss": -metrics["reward"], **metrics, "rows": float(sums["reward"][1])}

    # --- resume -----------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return the state of the rewards, which count steps without variation."""
        return self.composite_reward.state_dict()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state of the rewards."""
        self.composite_reward.load_state_dict(state)


def _completion_text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[0]["content"])


def _sampling_seed(setup: TrainerContext, step: int) -> int:
    """Return the seed of the answers that this process samples for a step."""
    name = f"{setup.job.train.seed}/{step}/{setup.world.rank}"
    # Halved, because torch takes a signed 64-bit seed.
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
