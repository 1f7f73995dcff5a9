"""Collator of prompts for online RL: prompt ids, and the rows that rewards are computed from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.data.collators.answers import real_rows
from training.data.schema.rows import PromptRow


class PromptCollator:
    """Collator of prompts; padding rows are left out of a batch."""

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens, which is not answered."""
        return {"input_ids": [], "labels": [], "seq_lengths": [], "ids": [], "about": ""}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a prompt of `length` tokens."""
        tokens = [1] * length
        about = json.dumps(asdict(PromptRow("longest", "", None, {})))
        row = {"input_ids": tokens, "labels": tokens, "seq_lengths": [length]}
        return {**row, "ids": [0], "about": about}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `prompt_ids` (a list of ids per prompt) and `prompt_rows` (`PromptRow`s)."""
        real = real_rows(rows)
        return {
            "prompt_ids": [list(row["input_ids"]) for row in real],
            "prompt_rows": [PromptRow(**json.loads(row["about"])) for row in real],
        }
