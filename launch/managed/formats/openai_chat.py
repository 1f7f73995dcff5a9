"""Format of OpenAI's chat completions, for open models on SageMaker and for rewards on Bedrock.

https://docs.aws.amazon.com/sagemaker/latest/dg/customizing-models-sft.html
https://docs.aws.amazon.com/bedrock/latest/userguide/rft-prepare-data.html
"""

from __future__ import annotations

from typing import Any

from launch.managed.formats.messages import Turn, conversation_of, prompt_of
from training.data.schema.rows import PromptRow, Row


def conversation(row: Row) -> dict[str, Any]:
    """Return a conversation whose answers are learned."""
    system, turns = conversation_of(row)
    return {"messages": messages(system, turns)}


def prompt(row: Row) -> dict[str, Any]:
    """Return a prompt with the reference, and the columns that a grader reads."""
    system, turns = prompt_of(row)
    assert isinstance(row, PromptRow)
    record: dict[str, Any] = {"messages": messages(system, turns)}
    if row.reference is not None:
        record["reference_answer"] = row.reference
    return {**record, **{k: v for k, v in row.columns.items() if k not in record}}


def messages(system: str, turns: list[Turn]) -> list[dict[str, str]]:
    """Return messages with their roles."""
    start = [("system", system)] if system else []
    return [{"role": role, "content": text} for role, text in (*start, *turns)]
