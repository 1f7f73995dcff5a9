"""Prompts to a batch: what there is to answer, and what answers are checked against."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.data.schema.rows import PromptRow


class PromptCollator:
    """Makes a batch of prompts; rows that only fill a batch up are left out of it."""

    def padding_example(self) -> dict[str, Any]:
        """Return a prompt without a token; nobody answers it."""
        return {"input_ids": [], "labels": [], "seq_lengths": [], "ids": [], "about": ""}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a prompt of `length` tokens."""
        tokens = [1] * length
        about = json.dumps(asdict(PromptRow("longest", "", None, {})))
        row = {"input_ids": tokens, "labels": tokens, "seq_lengths": [length]}
        return {**row, "ids": [0], "about": about}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `prompt_ids` (a list of ids for each prompt) and `prompt_rows` (`PromptRow`s)."""
        real = [row for row in rows if row["ids"]]
        return {
            "prompt_ids": [list(row["input_ids"]) for row in real],
            "prompt_rows": [_prompt_row(row) for row in real],
        }


def _prompt_row(row: Mapping[str, Any]) -> PromptRow:
    return PromptRow(**json.loads(row["about"]))
