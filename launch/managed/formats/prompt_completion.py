"""Format of a prompt and its completion, for the Llama models of Amazon Bedrock.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-customization-prepare.html
"""

from __future__ import annotations

from typing import Any

from launch.managed.formats.messages import conversation_of
from training.data.schema.rows import Row, RowError, prepend_system


def completion(row: Row) -> dict[str, Any]:
    """Return a prompt with its completion.

    Raises:
        RowError: The conversation has several turns.
    """
    system, turns = conversation_of(row)
    if len(turns) != 2:
        raise RowError(f"has {len(turns)} turns, and the format has one prompt and one completion")
    return {"prompt": prepend_system(system, turns[0][1]), "completion": turns[1][1]}
