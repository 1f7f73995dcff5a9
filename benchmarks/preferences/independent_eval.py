"""Independent evaluation of held-out rows, with plain Transformers and the saved models.

A run reports means. This computes a value for each row, from which bootstrap intervals follow. It
uses no code of the trainers, so that the two results check each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from training.config.load import parse_job
from training.config.rewards import ModelReward
from training.data.prepare import prepare
from training.data.schema.rows import PromptRow
from training.rewards.base import build_reward
from training.rewards.context import RewardContext

Values = npt.NDArray[np.float64]

_RESAMPLES = 2000
_BATCH = 32
_IGNORED = -100


def held_out(document: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the tokenized held-out rows of a job, as in its run."""
    job: Any = parse_job(document, document["name"])
    tokenizer = AutoTokenizer.from_pretrained(job.model.source)
    table = prepare(job, tokenizer, cache_dir=folder / "cache", run_dir=folder).validation
    assert table is not None
    return [table[index] for index in range(len(table))]


@torch.no_grad()
def log_probabilities(source: Path, rows: Iterable[dict[str, Any]]) -> Values:
    """Return log-probability and token count of every answer, `[rows, sides, 2]`."""
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    return np.array([[_answer(model, *side) for side in _sides(row)] for row in rows])


def _answer(model: Any, ids: Sequence[int], labels: Sequence[int]) -> tuple[float, float]:
    wanted = torch.tensor(labels[1:])
    counted = wanted != _IGNORED
    logits = model(torch.tensor([ids])).logits[0, :-1][counted].double()
    chosen = logits.log_softmax(-1).gather(1, wanted[counted, None])
    return float(chosen.sum()), float(counted.sum())


@torch.no_grad()
def scores(source: Path, rows: Iterable[dict[str, Any]]) -> Values:
    """Return the score of every answer, `[rows, sides]`."""
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).eval()
    found = [[float(model(torch.tensor([ids])).logits) for ids, _ in _sides(row)] for row in rows]
    return np.array(found)


def _sides(row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    ends = np.cumsum([0, *row["seq_lengths"]])
    spans = [slice(a, b) for a, b in pairwise(ends)]
    return [(list(row["input_ids"][span]), list(row["labels"][span])) for span in spans]


@torch.no_grad()
def evaluate_samples(
    policy: Path, start: Path, reward: Path, prompts: Sequence[str], longest: int
) -> dict[str, Values]:
    """Sample an answer to each prompt and return its `reward`, `kl` and `answer_tokens`.

    The KL divergence is estimated by the log-ratio of the sample to the start model, in nats.

    Args:
        policy: The model to sample from, at a temperature of 1.
        start: The model that training started from.
        reward: The reward model.
        prompts: The prompts.
        longest: The maximum number of tokens of an answer.
    """
    tokenizer = AutoTokenizer.from_pretrained(policy)
    policy_model, reference = (
        AutoModelForCausalLM.from_pretrained(p).eval() for p in (policy, start)
    )
    end = policy_model.generation_config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}
    prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    torch.manual_seed(0)
    texts, nats, lengths = [], [], []
    for first in range(0, len(prompt_ids), _BATCH):
        batch = prompt_ids[first : first + _BATCH]
        for ids, answer in zip(batch, _sample(policy_model, batch, longest, ends), strict=True):
            texts.append(tokenizer.decode(answer, skip_special_tokens=True))
            labels = [_IGNORED] * len(ids) + answer
            log_prob, reference_log_prob = (
                _answer(m, ids + answer, labels)[0] for m in (policy_model, reference)
            )
            nats.append(log_prob - reference_log_prob)
            lengths.append(float(len(answer)))
    section = ModelReward(kind="model", source=str(reward), max_length=512)
    scorer = build_reward(section, RewardContext(torch.device("cpu"), policy))
    rows = [PromptRow(str(number), text, None, {}) for number, text in enumerate(prompts)]
    rewards = scorer.score(list(prompts), texts, rows)
    results = {"reward": rewards, "kl": nats, "answer_tokens": lengths}
    return {name: np.array(values) for name, values in results.items()}


def _sample(model: Any, prompts: list[list[int]], longest: int, ends: set[int]) -> list[list[int]]:
    """Return the tokens of a sampled answer to each prompt, including the end token."""
    width = max(len(ids) for ids in prompts)
    padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    sampled = model.generate(
        input_ids=padded, attention_mask=mask, max_new_tokens=longest, do_sample=True,
        temperature=1.0, top_k=0, top_p=1.0, eos_token_id=sorted(ends), pad_token_id=min(ends),
    )[:, width:].tolist()  # fmt: skip
    return [_truncate(answer, ends) for answer in sampled]


def _truncate(answer: list[int], ends: set[int]) -> list[int]:
    stop = next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))
    return answer[:stop]


def by_prompt(rows: Sequence[dict[str, Any]]) -> list[npt.NDArray[np.int64]]:
    """Return the indices of the rows of each prompt."""
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        ids, labels = _sides(row)[0]
        prompt_length = next(place for place, label in enumerate(labels) if label != _IGNORED)
        groups[tuple(ids[:prompt_length])].append(number)
    return [np.array(numbers) for numbers in groups.values()]


def interval(
    groups: Sequence[npt.NDArray[np.int64]], statistic: Callable[[npt.NDArray[np.int64]], float]
) -> tuple[float, float]:
    """Return the 95 % cluster bootstrap interval of a statistic.

    Args:
        groups: Indices of dependent rows, such as those of one prompt; groups are resampled.
        statistic: The statistic, as a function of row indices.
    """
    generator, values = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        taken = generator.integers(0, len(groups), len(groups))
        values.append(statistic(np.concatenate([groups[place] for place in taken])))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
