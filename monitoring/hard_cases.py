"""Hard and drifted cases: calls whose prompts belong in the next data set, masked.

A row has the prompt, and the answer of the deployed model apart from it, so that no data
set has a refusal or a loop by accident: a person, a teacher or `temper compare` writes the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.call import LoggedCall
from monitoring.drift import WindowDrift
from monitoring.features import Features
from preparation.masking import RowMask
from training.config.data import ShapeName
from training.run_folder import write_whole

_LOSS_QUANTILE = 0.995
_DRIFTED_SHARE = 0.1
_LOW_RATING = 1 / 3
REASONS = (
    *("low rating", "refused", "repeats itself", "empty"),
    *("drifted", "cut", "unlike the training set"),
)
"""Reasons for which a call is a hard case, most telling first."""


@dataclass(frozen=True)
class HardCase:
    """A call that the next data set should have.

    Attributes:
        call: The call.
        reasons: Why.
        window: Name of its window.
    """

    call: LoggedCall
    reasons: tuple[str, ...]
    window: str


def find_hard_cases(
    calls: Sequence[LoggedCall],
    features: Features,
    training: Features,
    drift: WindowDrift,
    window: str,
    ratings: Mapping[int, float],
    scale: int,
) -> list[HardCase]:
    """Return the hard cases among the measured calls of a window.

    Args:
        calls: The measured calls.
        features: Their features.
        training: Features of the training set.
        drift: Drift of the window.
        window: Name of the window.
        ratings: Rating of the calls that were judged, by place.
        scale: Best rating.
    """
    unusual = np.nanquantile(training.prompt_nats, _LOSS_QUANTILE)
    drifted = np.inf
    if drift.flagged and len(drift.scores):
        drifted = float(np.quantile(drift.scores, 1 - _DRIFTED_SHARE))
    cases = []
    for place, call in enumerate(calls):
        tests = (
            ratings.get(place, np.inf) <= 1 + (scale - 1) * _LOW_RATING,
            features.refused[place] == 1,
            features.repeated[place] == 1,
            features.empty[place] == 1,
            len(drift.scores) > place and drift.scores[place] >= drifted,
            call.finish_reason == "length",
            features.prompt_nats[place] > unusual,
        )
        reasons = tuple(name for name, holds in zip(REASONS, tests, strict=True) if holds)
        if reasons:
            cases.append(HardCase(call, reasons, window))
    return cases


def write_hard_cases(path: Path, cases: Sequence[HardCase], most: int) -> int:
    """Write cases as JSON Lines, masked, and return their number; a prompt is written once.

    Args:
        path: The file.
        cases: The cases.
        most: Most cases, those with most reasons first.
    """
    chosen: dict[str, HardCase] = {}
    for case in sorted(cases, key=_order):
        if len(chosen) < most:
            chosen.setdefault(case.call.prompt_text, case)
    masked = RowMask().mask_all([_columns(case) for case in chosen.values()])
    rows = [_row(case, columns) for case, columns in zip(chosen.values(), masked, strict=True)]
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)


def _order(case: HardCase) -> tuple[int, int]:
    """Return the place of a case: most reasons first, then the most telling reason."""
    return -len(case.reasons), REASONS.index(case.reasons[0])


def _columns(case: HardCase) -> tuple[ShapeName, dict[str, Any]]:
    """Return shape and columns of a case: prompt and answer together, so that names agree."""
    prompt, answer = case.call.prompt, case.call.answer or ""
    if isinstance(prompt, str):
        return "prompt_completion", {"prompt": prompt, "completion": answer}
    messages = [{"role": m.get("role", "user"), "content": m.get("content")} for m in prompt]
    return "messages", {"messages": [*messages, {"role": "assistant", "content": answer}]}


def _row(case: HardCase, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a case from its masked columns."""
    if "messages" in columns:
        *prompt, last = columns["messages"]
        answer = last["content"]
    else:
        prompt, answer = columns["prompt"], columns["completion"]
    return {
        "prompt": prompt,
        "served_answer": answer,
        "reasons": list(case.reasons),
        "served_by": case.call.model,
        "window": case.window,
    }
