"""Format of verl, for reinforcement learning of open models on SageMaker.

https://docs.aws.amazon.com/sagemaker/latest/dg/customizing-models-rft.html
"""

from __future__ import annotations

from typing import Any

from launch.managed.formats.messages import prompt_of
from launch.managed.formats.openai_chat import messages
from training.data.schema.rows import PromptRow, Row


def prompt(row: Row) -> dict[str, Any]:
    """Return a prompt with the reference of its reward, and the columns that a grader reads."""
    system, turns = prompt_of(row)
    assert isinstance(row, PromptRow)
    record: dict[str, Any] = {
        "id": row.id,
        "data_source": "temper",
        "prompt": messages(system, turns),
        "extra_info": {"id": row.id, **row.columns},
    }
    if row.reference is not None:
        record["reward_model"] = {"style": "rule", "ground_truth": row.reference}
    return record
