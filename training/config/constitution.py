"""A constitution: the principles that answers are criticised, revised and compared by.

A YAML file, or the same written in the job:

    principles:
      - An answer never helps anyone to harm others.
      - name: honesty
        text: An answer says so when it is not sure.
        critique: Point out claims that are surer than they should be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from training.config.base import ConfigSection

_EXAMPLE = "principles: ['An answer never helps anyone to harm others.']"


def _as_principle(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the principle is empty. Write a sentence, or remove it")
    return text


class Principle(ConfigSection):
    """One principle that answers should follow."""

    text: Annotated[str, AfterValidator(_not_empty)]
    """Sentence that says what a good answer does or does not do."""
    name: str = ""
    """Name in reports; its number if not set."""
    critique: str = "Say briefly in which ways the answer goes against the principle."
    """Request for a critique."""
    revision: str = (
        "Write the answer anew, so that it keeps to the principle and helps as much as it can."
    )
    """Request for a revision."""
    choose: str = "Which answer keeps to the principle better?"
    """Request for a comparison of two answers."""


class Constitution(ConfigSection):
    """Principles; one is drawn for each critique and for each comparison."""

    principles: Annotated[
        tuple[
            Annotated[
                Principle, BeforeValidator(_as_principle, json_schema_input_type=str | Principle)
            ],
            ...,
        ],
        Field(min_length=1),
    ]

    def name_of(self, number: int) -> str:
        """Return the name in reports of the principle with this number."""
        return self.principles[number].name or f"principle {number + 1}"


def as_constitution(value: Any) -> Any:
    """Return the constitution of a job as a mapping; a path is read as YAML.

    Raises:
        ValueError: The file does not exist or is not YAML, or there is no principle.
    """
    description = "the constitution"
    if isinstance(value, str):
        description, value = value, _read(Path(value))
    if isinstance(value, list):
        value = {"principles": value}
    if value is None or (isinstance(value, dict) and not value.get("principles")):
        raise ValueError(
            f"{description} has no principles, so there is nothing to judge answers by. Write them "
            f"as a list of sentences, such as {_EXAMPLE}"
        )
    return value


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}. A constitution is YAML: {_EXAMPLE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not YAML: {reason}") from None
