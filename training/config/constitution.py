"""A constitution: the principles that answers are criticised, revised and compared by.

A YAML file, or the same written in the job:

    principles:
      - An answer helps nobody to harm others.
      - name: honesty
        text: An answer says so where it is not sure.
        critique: Point out claims that are surer than they should be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from training.config.base import ConfigSection

_EXAMPLE = "principles: ['An answer helps nobody to harm others.']"


def _as_principle(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("the principle says nothing. Write a sentence, or remove it")
    return text


class Principle(ConfigSection):
    """One thing that answers should keep to."""

    text: Annotated[str, AfterValidator(_said)]
    """What a good answer does, or does not do, as a sentence."""
    name: str = ""
    """What it is called in reports; its number when left out."""
    critique: str = "Say briefly in which ways the answer goes against the principle."
    """How a critique is asked for."""
    revision: str = (
        "Write the answer anew, so that it keeps to the principle and helps as much as it can."
    )
    """How a revision is asked for."""
    choose: str = "Which answer keeps to the principle better?"
    """How two answers are compared."""


class Constitution(ConfigSection):
    """Principles; one is drawn for each critique and for each comparison."""

    principles: Annotated[
        tuple[Annotated[Principle, BeforeValidator(_as_principle)], ...], Field(min_length=1)
    ]

    def name_of(self, number: int) -> str:
        """Return what the principle with this number is called in reports."""
        return self.principles[number].name or f"principle {number + 1}"


def as_constitution(value: Any) -> Any:
    """Return what a job says of its constitution as a mapping; a file is read.

    Raises:
        ValueError: It is not there, not YAML, or without a principle.
    """
    named = "the constitution"
    if isinstance(value, str):
        named, value = value, _read(Path(value))
    if isinstance(value, list):
        value = {"principles": value}
    if value is None or (isinstance(value, dict) and not value.get("principles")):
        raise ValueError(
            f"{named} has no principles, so there is nothing to judge answers by. Write them as "
            f"a list of sentences, such as {_EXAMPLE}"
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
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is not YAML: {said}") from None
