"""What GRPO and RLOO have in common: answers are sampled, rewarded and learned from in one step.

TRL's trainers sample in the middle of a step, from generators that a resume must bring back. Here
the answers of a whole step are sampled before its first micro-batch, from a generator seeded by
the job's seed, the step and the process: a resumed run samples what the uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, Trainer
from trl.trainer.utils import split_tensor_dict

from training.config.online_rl import Sampling
from training.data.schema.rows import PromptRow
from training.methods.common.context_check import check_context
from training.methods.common.per_row_loss import own_metrics, switch_off_dropout
from training.methods.common.reference_model import keep_reference, same_or_raise
from training.rewards.aggregate import CompositeReward
from training.rewards.base import RewardContext
from training.rewards.repetition import repeated_share
from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin
from training.trainer.grouped_order import GroupedBatchSampler
from training.trainer.metrics import Sums, means
from training.trainer.seed import preserve_rng_state

_OF_ANSWERS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "answer_tokens": "completions/mean_length",
    "flat_groups": "frac_reward_zero_std",
}
"""What we call TRL's metrics of a step's answers."""
_NGRAM = 3
_TOLD = 2
ANSWERS = "answers.jsonl"
"""Some of what was answered, for people to read."""


class OnlineRlTrainer(ExactTrainerMixin):
    """Mix into TRL's GRPO or RLOO trainer."""

    total: CompositeReward
    _prompt_ids: Sequence[list[int]] = ()

    # The parent's.
    processing_class: Any
    reward_weights: torch.Tensor
    eos_token_ids: list[int]
    _metrics: Any
    _generate_and_score_completions: Any
    _sampling_seconds = 0.0
    _get_per_token_logps_and_entropies: Any
    _compute_loss: Any

    # --- a step's answers -------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's prompts, each as often as it is answered."""
        setup = self.setup
        blocks = GroupedBatchSampler(
            setup.order,
            rank=setup.world.rank,
            world_size=setup.world.size,
            micro_batch_size=setup.micro_batch_size,
        )
        return DataLoader(self.train_rows, batch_sampler=blocks, collate_fn=self.batch_collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Return the step's micro-batches: answers, their advantages, and what they came from."""
        asked = [next(epoch_iterator) for _ in range(num_batches)]
        step = int(self.state.global_step)
        self.model.train()
        with preserve_rng_state():
            torch.manual_seed(_seed(self.setup, step))
            found = self._answered([row for batch in asked for row in batch["prompt_rows"]], asked)
        if step == 0 and "ref_per_token_logps" in found:
            self._check_reference(found)
        parts = split_tensor_dict(found, num_batches)
        for part, batch in zip(parts, asked, strict=True):
            tokens = int(part["completion_mask"].sum())
            part["row_ids"] = batch["row_ids"]
            part["num_tokens"] = tokens + int(part["prompt_mask"].sum())
            self.count_tokens(part["num_tokens"], tokens)
        return parts, None

    def _answered(self, rows: list[PromptRow], asked: list[Any]) -> dict[str, Any]:
        self._prompt_ids = [ids for batch in asked for ids in batch["prompt_ids"]]
        inputs = [{"prompt": row.prompt, "row": row} for row in rows]
        found: dict[str, Any] = self._generate_and_score_completions(inputs)
        theirs = {name: values[-1] for name, values in self._metrics["train"].items() if values}
        self._metrics["train"].clear()
        self.extra |= {ours: theirs[name] for ours, name in _OF_ANSWERS.items() if name in theirs}
        for name in self.total.names:
            self.extra[f"reward_{name}"] = theirs[f"rewards/{name}/mean"]
        self.extra["sampling_seconds"] = self._sampling_seconds
        self.extra["ended"] = 1.0 - theirs["completions/clipped_ratio"]
        if "kl" in theirs:
            self.extra["kl_token"] = theirs["kl"]
            self.extra["kl"] = theirs["kl"] * self.extra["answer_tokens"]
        return found

    def _generate_single_turn(self, *asked: Any, **more: Any) -> Any:
        """Return what the parent samples, and note how long it took."""
        began = time.monotonic()
        found = super()._generate_single_turn(*asked, **more)  # type: ignore[misc]  # the parent's
        self._sampling_seconds = time.monotonic() - began
        return found

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Sequence[list[int]], None, Any]:
        """Return the prompts as they were tokenized with the data."""
        return self._prompt_ids, None, {}

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: list[Any], completion_ids_list: Any
    ) -> torch.Tensor:
        """Return every reward of every answer, those of all processes, [answers, rewards]."""
        texts = [_text(answer) for answer in completions]
        scores = self.total.score(prompts, texts, [row["row"] for row in inputs])
        for text in texts:
            self.add_metric("repetition", repeated_share(text, _NGRAM), 1)
        ended = [bool(ids) and ids[-1] in self.eos_token_ids for ids in completion_ids_list]
        self._tell(prompts, texts, scores.total, ended)
        mine = torch.tensor(list(zip(*scores.each.values(), strict=True)), dtype=torch.float32)
        every: torch.Tensor = gather(mine.to(self.accelerator.device))
        sums = (every * self.reward_weights.to(every.device)).sum(1)
        self.total.check_varies(
            float(sums.min()), float(sums.max()), int(self.state.global_step) + 1
        )
        return every

    def _tell(
        self, prompts: list[Any], texts: list[str], rewards: list[float], ended: list[bool]
    ) -> None:
        """Keep the first answer to the first prompts of a step, for people to read."""
        if not self.setup.world.is_main_process:
            return
        group = self.setup.job.method.answers_per_prompt
        with (self.setup.folder / ANSWERS).open("a", encoding="utf-8") as file:
            for place in range(0, len(texts), group)[:_TOLD]:
                row = {
                    "step": int(self.state.global_step),
                    "held_out": False,
                    "prompt": prompts[place],
                    "answer": texts[place],
                    "reward": rewards[place],
                    "kl": None,
                    "ended": ended[place],
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def on_engine_ready(self, number: int) -> None:
        """Forget what was answered in steps that a resume takes again."""
        path = self.setup.folder / ANSWERS
        if self.setup.world.is_main_process and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and _step_of(line) < number]
            building = path.with_suffix(".writing")
            building.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            building.replace(path)

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Return a micro-batch on its device: its answers were sampled before."""
        return Trainer._prepare_inputs(self, inputs)

    # --- the loss ---------------------------------------------------------------------------

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return the loss of a micro-batch, scaled as the parent's."""
        tokens = int(inputs["completion_mask"].sum())
        with own_metrics(self) as theirs:
            loss: torch.Tensor = self._compute_loss(model, inputs)
        self.add_metric("entropy", theirs["entropy"] * tokens, tokens)
        if "kl" in theirs:
            self.add_metric("kl_token", theirs["kl"] * tokens, tokens)
            self.add_metric("kl", theirs["kl"] * tokens, len(inputs["completion_mask"]))
        return loss

    def _check_reference(self, found: dict[str, Any]) -> None:
        """See that the reference is the model itself before the first step."""
        width = found["completion_ids"].size(1)
        ids = torch.cat([found["prompt_ids"], found["completion_ids"]], dim=1)
        mask = torch.cat([found["prompt_mask"], found["completion_mask"]], dim=1)
        with torch.no_grad(), preserve_rng_state():
            ours, _, _ = self._get_per_token_logps_and_entropies(
                self.model, ids, mask, width, self.setup.micro_batch_size
            )
        counted = found["completion_mask"]
        apart = ((ours - found["ref_per_token_logps"]).abs() * counted).sum(1) / counted.sum(1)
        same_or_raise(float(apart.max()))

    # --- held-out prompts -------------------------------------------------------------------

    def measure_batch(self, model: Any, batch: dict[str, Any]) -> Sums:
        """Return the sums of a batch of held-out prompts: what one sampled answer to each earns."""
        rows: list[PromptRow] = batch["prompt_rows"]
        # A process without prompts of its own still takes part: weights may be sharded.
        self._prompt_ids = batch["prompt_ids"] or [[self.eos_token_ids[0]]]
        torch.manual_seed(_seed(self.setup, 0))
        with own_metrics(self):
            ids = self._generate_single_turn(self._prompt_ids, None, {}, *self._one_each)
        ids = ids[0] if isinstance(ids, tuple) else ids
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)[: len(rows)]
        scores = self.total.score([row.prompt for row in rows], texts, rows)
        count = len(rows)
        ended = sum(bool(one) and one[-1] in self.eos_token_ids for one in ids[:count])
        sums: Sums = {"reward": (sum(scores.total), count)}
        sums |= {f"reward_{name}": (sum(values), count) for name, values in scores.each.items()}
        return sums | {
            "answer_tokens": (sum(len(one) for one in ids[:count]), count),
            "ended": (ended, count),
            "repetition": (sum(repeated_share(text, _NGRAM) for text in texts), count),
        }

    _one_each: tuple[int, ...] = ()
    """Further arguments of the parent's sampling, where it wants the answers to each prompt."""

    def aggregate(self, sums: Sums) -> dict[str, float]:
        """Return the means; the loss is minus the reward, so that less of it is better."""
        found = means(sums)
        return {"loss": -found["reward"], **found, "rows": float(sums["reward"][1])}

    # --- going on ---------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Return how long every answer has been worth the same."""
        return self.total.state_dict()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.total.load_state_dict(state)


def build_online_rl(
    trainer: type[Any],
    config: type[Any],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
    **own: Any,
) -> Any:
    """Return a trainer, with what TRL's own does not know: rewards, ends of answers, the reference.

    Args:
        trainer: A `SampledTrainer` mixed into one of TRL's.
        config: What TRL configures it with.
        model: With its adapter, if any.
        tokenizer: Saved with the model.
        rows: A `datasets.Dataset` of prompts.
        arguments: Transformers' training arguments.
        setup: What the loop needs.
        **own: Settings that this method has and others have not.

    Raises:
        ModelError: Prompts and answers do not fit the model's context.
    """
    method = setup.job.method
    assert isinstance(method, Sampling)
    rewards = CompositeReward.from_sections(
        method.reward, RewardContext.from_trainer_context(setup)
    )
    switch_off_dropout(model)
    built = trainer(
        setup=setup,
        model=model,
        reward_funcs=[_scored_elsewhere] * len(rewards.names),
        args=config(**_sampling_settings(method, arguments, rewards), **own),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    check_context(setup, built.model, method.max_new_tokens)
    built.total = rewards
    built.reward_func_names = rewards.names
    ends = setup.row_tokenizer.end_ids
    built.eos_token_ids = ends
    built.generation_config.eos_token_id = ends
    built.generation_kwargs["eos_token_id"] = ends
    if method.beta:
        built.beta = method.beta
        keep_reference(built, method.rollout.temperature)
    return built


def _scored_elsewhere(*ignored: Any, **also_ignored: Any) -> list[float]:
    """Stand for a reward where TRL wants a function: `Total` scores all of them at once."""
    raise AssertionError("rewards come from Total")


def _sampling_settings(
    method: Sampling, arguments: dict[str, Any], rewards: CompositeReward
) -> dict[str, Any]:
    """Return the arguments that TRL's configurations of both methods share."""
    rollout = method.rollout
    return {
        **arguments,
        # Added to the trainer afterwards: TRL would load the reference by the model's name.
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


def _step_of(line: str) -> int:
    return int(json.loads(line)["step"])


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else str(answer[0]["content"])


def _seed(setup: TrainerContext, step: int) -> int:
    """Return the seed of the answers that one process samples for one step."""
    name = f"{setup.job.train.seed}/{step}/{setup.world.rank}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
