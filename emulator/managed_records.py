"""Check of training records as the services check them, written from their schemas.

It shares nothing with the code that writes the records, so that each finds the errors of the other.
Sources: the JSON schemas of the SageMaker Python SDK (sagemaker/ai_registry/schemas), and Amazon
Bedrock User Guide, "Prepare data for fine-tuning your models".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from validation.json_lines import split_lines

Check = Callable[[dict[str, Any]], str]


def invalid_records(text: str, kind: str) -> list[str]:
    """Return what is wrong with the records of a JSON Lines file, one line each.

    Args:
        text: Content of the file.
        kind: `converse`, `converse-prompts`, `converse-preference`, `prompt-completion`,
            `openai-chat`, `openai-prompts`, `hf-preference` or `verl`.
    """
    found = []
    for number, line in enumerate(split_lines(text), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            found.append(f"line {number} is not JSON")
            continue
        if not isinstance(record, dict):
            found.append(f"line {number} is not an object")
        elif problem := _CHECKS[kind](record):
            found.append(f"line {number}: {problem}")
    return found


def _converse(record: dict[str, Any]) -> str:
    problem = _converse_turns(record, record.get("messages"))
    if problem:
        return problem
    if record["messages"][-1]["role"] != "assistant":
        return "the last message must be of the assistant"
    return ""


def _converse_prompt(record: dict[str, Any]) -> str:
    problem = _converse_turns(record, record.get("messages"))
    if not problem and record["messages"][-1]["role"] != "user":
        return "the last message must be of the user"
    return problem


def _converse_turns(record: dict[str, Any], messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return "messages must be a list"
    if "system" in record and not all(set(part) == {"text"} for part in record["system"]):
        return "system must be a list of texts"
    for index, message in enumerate(messages):
        if message.get("role") != ("user", "assistant")[index % 2]:
            return "roles must alternate, beginning with user"
        content = message.get("content")
        if not isinstance(content, list) or not content:
            return "content must be a list of blocks"
        if not all(isinstance(block.get("text"), str) and block["text"] for block in content):
            return "a block has no text"
    return ""


def _converse_preference(record: dict[str, Any]) -> str:
    messages = record.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        return "messages must have two entries or more"
    if problem := _converse_turns(record, messages[:-1]):
        return problem
    candidates = messages[-1].get("candidates", [])
    labels = sorted(one.get("preferenceLabel", "") for one in candidates)
    return "" if labels == ["non-preferred", "preferred"] else "candidates must be one pair"


def _prompt_completion(record: dict[str, Any]) -> str:
    if set(record) != {"prompt", "completion"}:
        return f"keys must be prompt and completion, not {sorted(record)}"
    return "" if all(isinstance(v, str) and v for v in record.values()) else "a text is empty"


def _openai_chat(record: dict[str, Any]) -> str:
    return _chat(record.get("messages"), "assistant")


def _openai_prompt(record: dict[str, Any]) -> str:
    return _chat(record.get("messages"), "user")


def _chat(messages: Any, last: str) -> str:
    if not isinstance(messages, list) or not messages:
        return "messages must be a list"
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant"):
            return f"the role {message.get('role')} is unknown"
        if not isinstance(message.get("content"), str):
            return "content must be text"
    return "" if messages[-1]["role"] == last else f"the last message must be of the role {last}"


def _hf_preference(record: dict[str, Any]) -> str:
    if problem := _chat(record.get("prompt"), "user"):
        return f"prompt: {problem}"
    for key in ("chosen", "rejected"):
        if problem := _chat(record.get(key), "assistant"):
            return f"{key}: {problem}"
    return ""


def _verl(record: dict[str, Any]) -> str:
    if problem := _chat(record.get("prompt"), "user"):
        return f"prompt: {problem}"
    wrong = [
        key
        for key in ("reward_model", "extra_info")
        if key in record and not isinstance(record[key], dict)
    ]
    return f"{wrong[0]} must be an object" if wrong else ""


_CHECKS: dict[str, Check] = {
    "converse": _converse,
    "converse-prompts": _converse_prompt,
    "converse-preference": _converse_preference,
    "prompt-completion": _prompt_completion,
    "openai-chat": _openai_chat,
    "openai-prompts": _openai_prompt,
    "hf-preference": _hf_preference,
    "verl": _verl,
}
