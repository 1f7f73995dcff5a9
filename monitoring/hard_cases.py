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
    mask = RowMask()
    lines: list[str] = []
    seen: set[str] = set()
    for case in sorted(cases, key=_order):
        if len(lines) == most:
            break
        if case.call.prompt_text not in seen:
            seen.add(case.call.prompt_text)
            lines.append(json.dumps(_row(case, mask), ensure_ascii=False))
    write_whole(path, "".join(line + "\n" for line in lines))
    return len(lines)


def _order(case: HardCase) -> tuple[int, int]:
    """Return the place of a case: most reasons first, then the most telling reason."""
    return -len(case.reasons), REASONS.index(case.reasons[0])


def _row(case: HardCase, mask: RowMask) -> dict[str, Any]:
    """Return the row of a case: one masking for prompt and answer, so that names agree."""
    call, answer = case.call, case.call.answer or ""
    prompt: Any
    if isinstance(call.prompt, str):
        columns = mask.mask("prompt_completion", {"prompt": call.prompt, "completion": answer})
        prompt, answer = columns["prompt"], columns["completion"]
    else:
        messages = [{"role": m.get("role", "user"), "content": m.get("content")}
                    for m in call.prompt]  # fmt: skip
        if answer:
            messages.append({"role": "assistant", "content": answer})
        masked = mask.mask("messages", {"messages": messages})["messages"]
        prompt, answer = masked[: len(call.prompt)], masked[-1]["content"] if answer else ""
    return {
        "prompt": prompt,
        "served_answer": answer,
        "reasons": list(case.reasons),
        "served_by": call.model,
        "window": case.window,
    }
