"""Common parts of requests to AWS: names, folders in S3, and options that must be given."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from evaluation.config.scores import LlmJudge
from evaluation.exports.base import ExportOptions
from evaluation.items import Item
from training.config.judges import BedrockJudge
from training.errors import JobError, Problem

_S3 = re.compile(r"s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[-!_*'().a-z0-9A-Z]+)*/?")
ROLE = re.compile(r"arn:aws[^:]*:iam::[0-9]{12}:role/.+")


def require_options(
    tool: str, options: ExportOptions, needed: Mapping[str, tuple[str, str]]
) -> None:
    """Raise if options are missing or malformed, with every problem at once.

    Args:
        tool: Name of the tool, for messages.
        options: The options.
        needed: Regular expression and example of each option, by its field.

    Raises:
        JobError: They are.
    """
    problems = []
    for name, (pattern, example) in needed.items():
        value = getattr(options, name)
        flag = "--" + name.replace("_", "-")
        if value is None:
            problems.append(Problem(flag, f"a request to {tool} needs it", fix=f"Write {example}"))
        elif not re.fullmatch(pattern, value):
            problems.append(Problem(flag, "not of the form expected", value, f"Write {example}"))
    if problems:
        raise JobError(f"export to {tool}", problems)


S3_OPTION = (_S3.pattern, "--s3 s3://bucket/folder")
ROLE_OPTION = (ROLE.pattern, "--role arn:aws:iam::111122223333:role/NAME")


def s3_path(options: ExportOptions, *parts: str) -> str:
    """Return a path in the folder in S3."""
    return "/".join([str(options.s3).rstrip("/"), *parts])


def flat_prompt(item: Item) -> str:
    """Return the prompt of an item as one text, in which examples precede the question."""
    if isinstance(item.prompt, str):
        return item.prompt
    return "\n\n".join(message["content"] for message in item.prompt)


def aws_name(*parts: str, limit: int = 63) -> str:
    """Return a name of lower-case letters, digits and hyphens.

    A name that had other characters, or too many, ends in a digest, so that no two become one.

    Args:
        parts: Parts of the name.
        limit: Most characters.
    """
    text = "-".join(parts)
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if name == text and len(name) <= limit:
        return name
    return f"{name[: limit - 9].strip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def why_not_judged(score: LlmJudge) -> str:
    """Return why a model on Bedrock cannot rate as a judge does; empty if it can."""
    if score.compares:
        return "it judges single answers and compares no two"
    if len(score.panel) > 1:
        return "it judges by one model"
    if not isinstance(score.panel[0], BedrockJudge):
        return "its judge is none of kind: bedrock"
    if score.scale > 10:
        return f"a scale has at most 10 values, this one {score.scale}"
    return ""
