"""Grader of reinforcement fine-tuning, as AWS Lambda runs it: scores answers by a job's rewards.

The archive of a function has this file at its root, next to the rewards and `rewards.json`, which
says what they are and which of two contracts the caller has:

- `list`: Amazon Bedrock, and Amazon Nova on SageMaker. The event is a list of samples, and so is
  the answer. docs.aws.amazon.com/bedrock/latest/userguide/reward-functions.html and
  docs.aws.amazon.com/sagemaker/latest/dg/nova-implementing-reward-functions.html
- `http`: open models on SageMaker. The answer is an HTTP response whose body is the list.
  github.com/aws/sagemaker-python-sdk: sagemaker-train/src/sagemaker/train/common_utils/
  rlvr_reward_verifier.py

A sample that cannot be scored makes the invocation fail: a score of 0 in its place would be
learned from unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from training.data.schema.rows import PromptRow
from training.rewards.aggregate import CompositeReward

_SETTINGS = "rewards.json"
_SECTIONS = ("extra_info", "metadata", "reward_model")
"""Parts of a sample in which callers put the columns of a row."""
_REFERENCES = (
    ("metadata", "reference_answer"),
    ("", "reference_answer"),
    ("reward_model", "ground_truth"),
    ("metadata", "ground_truth"),
    ("", "ground_truth"),
)
"""Parts and keys in which callers put the reference, most specific first: the columns of a row may
have the same names."""


def lambda_handler(event: Any, context: Any) -> Any:
    """Return the scores of a batch of samples, in the form that the caller expects.

    Args:
        event: The samples.
        context: Context of the invocation; not used.

    Raises:
        ValueError: The event, or a sample in it, is not as documented.
        TemperError: A reward cannot score an answer.
    """
    settings, rewards = _load()
    scores = _scores(_samples(event), rewards)
    if settings["response"] == "list":
        return scores
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(scores),
    }


@cache
def _load() -> tuple[dict[str, Any], CompositeReward]:
    text = Path(__file__).with_name(_SETTINGS).read_text(encoding="utf-8")
    settings = json.loads(text)
    sections: list[Any] = [SimpleNamespace(**section) for section in settings["rewards"]]
    return settings, CompositeReward.from_sections(sections, None)


def _samples(event: Any) -> list[Mapping[str, Any]]:
    if isinstance(event, dict) and "body" in event:
        body = event["body"]
        event = json.loads(body) if isinstance(body, str) else body
    if isinstance(event, dict):
        event = event.get("batch", [event])
    if not isinstance(event, list) or not all(isinstance(sample, dict) for sample in event):
        raise ValueError(f"the event must be a list of samples, not {str(event)[:200]}")
    return event


def _scores(samples: list[Mapping[str, Any]], rewards: CompositeReward) -> list[dict[str, Any]]:
    rows = [_row(number, sample) for number, sample in enumerate(samples)]
    answers = [_answer(row.id, sample) for row, sample in zip(rows, samples, strict=True)]
    scored = rewards.score([row.prompt for row in rows], answers, rows)
    return [
        {
            "id": row.id,
            "aggregate_reward_score": total,
            "metrics_list": [
                {"name": name, "value": values[index], "type": "Reward"}
                for name, values in scored.each.items()
            ],
        }
        for index, (row, total) in enumerate(zip(rows, scored.total, strict=True))
    ]


def _answer(name: str, sample: Mapping[str, Any]) -> str:
    last = (sample.get("messages") or [{}])[-1]
    if last.get("role") != "assistant" or not isinstance(last.get("content"), str):
        raise ValueError(f"sample {name}: messages must end with an answer of the assistant")
    return str(last["content"])


def _row(number: int, sample: Mapping[str, Any]) -> PromptRow:
    """Return the row of a sample: its prompt, its reference, and its other columns."""
    columns = {key: value for key, value in sample.items() if key != "messages"}
    parts = {"": sample}
    for section in _SECTIONS:
        part = columns.pop(section, None)
        parts[section] = part if isinstance(part, dict) else {}
    for section in _SECTIONS:
        columns |= parts[section]
    found = (parts[section].get(key) for section, key in _REFERENCES)
    reference = next((value for value in found if value is not None), None)
    if reference is not None and not isinstance(reference, str):
        reference = json.dumps(reference, ensure_ascii=False)
    name = str(sample.get("id", number))
    return PromptRow(name, list(sample.get("messages") or [])[:-1], reference, columns)
