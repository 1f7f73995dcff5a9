"""Format of a preference pair, for DPO of open models on SageMaker.

https://docs.aws.amazon.com/sagemaker/latest/dg/customizing-models-dpo.html
"""

from __future__ import annotations

from typing import Any

from launch.managed.formats.messages import answers_of
from launch.managed.formats.openai_chat import messages
from training.data.schema.rows import Row


def preference(row: Row) -> dict[str, Any]:
    """Return a prompt with the preferred and the other answer."""
    system, turns, chosen, rejected = answers_of(row)
    return {
        "prompt": messages(system, turns),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
