"""What a run's held-out rows come to: its own means, with intervals from a recount of every row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.preferences.independent_eval import (
    Values,
    answered,
    by_prompt,
    held_out,
    interval,
    log_probabilities,
    scores,
)

Line = tuple[str, str, str, str, str]
"""Rows held out, measure, before, after, interval of what it is after."""
_AGREE = 0.02
"""How far a recount may be from the run's own figure, relative to it or to 1."""


def of_pairs(document: dict[str, Any], cell: Path, start: Path) -> list[Line]:
    """Return how often and how far chosen answers are above rejected ones, and the loss."""
    rows = held_out(document, cell / "again")
    groups = by_prompt(rows)
    gap = _gap(document["method"], rows, cell / "model", start)
    measured: dict[str, tuple[int, Values | None]] = {
        "accuracy": (3, (gap > 0).astype(float)),
        "margin": (3, gap),
        "loss": (3, None),
    }
    if document["method"].keys() == {"kind", "beta"} and document["method"]["kind"] == "dpo":
        measured["loss"] = (4, np.logaddexp(0.0, -gap))
    own = _evaluation(cell)
    found = []
    for name, (digits, values) in measured.items():
        before, after = (own[side]["validation"][name] for side in ("before", "after"))
        around = ""
        if values is not None:
            _agree(cell.name, name, after, float(values.mean()))
            around = _shown(interval(groups, lambda drawn, v=values: v[drawn].mean()), digits)
        pair = (f"{before:.{digits}f}", f"{after:.{digits}f}")
        where = f"{len(rows)} pairs, {len(groups)} prompts"
        found.append((where, name, *pair, around))
    return found


def _gap(method: dict[str, Any], rows: list[dict[str, Any]], model: Path, start: Path) -> Values:
    """Return how far each chosen answer is above its rejected one, [rows]."""
    if method["kind"] == "reward":
        chosen, rejected = scores(model, rows).T
        return np.asarray(chosen - rejected)
    found = log_probabilities(model, rows)
    nats, tokens = found[..., 0], found[..., 1]
    if method["kind"] == "dpo":
        value = method["beta"] * (nats - log_probabilities(start, rows)[..., 0])
    else:
        # SimPO and ORPO compare means over tokens.
        value = method["beta"] * nats / tokens
    return np.asarray(value[:, 0] - value[:, 1])


def of_labels(document: dict[str, Any], cell: Path, start: Path) -> list[Line]:
    """Return how well good answers are told from bad ones, and the loss."""
    method = document["method"]
    rows = held_out(document, cell / "again")
    groups = by_prompt(rows)
    good = np.array([json.loads(row["about"])["label"] for row in rows])
    after, before = (log_probabilities(path, rows)[:, 0, 0] for path in (cell / "model", start))
    reward = method["beta"] * (after - before)
    own = _evaluation(cell)
    past = reward - method["beta"] * own["after"]["validation"]["kl"]
    weight = np.where(good, 1.0, method.get("undesirable_weight", 1.0))
    loss = weight * (1 - 1 / (1 + np.exp(-np.where(good, past, -past))))
    numbers: dict[str, tuple[int, Callable[[Any], float]]] = {
        "auc": (3, lambda drawn: _auc(reward[drawn], good[drawn])),
        "margin": (3, lambda drawn: _apart(reward[drawn], good[drawn])),
        "loss": (4, lambda drawn: float(loss[drawn].mean())),
    }
    found = []
    for name, (digits, number) in numbers.items():
        was, now = (own[side]["validation"][name] for side in ("before", "after"))
        _agree(cell.name, name, now, number(np.arange(len(rows))))
        where = f"{int(good.sum())} good, {int((~good).sum())} bad"
        around = _shown(interval(groups, number), digits)
        found.append((where, name, f"{was:.{digits}f}", f"{now:.{digits}f}", around))
    return found


def _apart(reward: Values, good: Any) -> float:
    return float(reward[good].mean() - reward[~good].mean())


def _auc(reward: Values, good: Any) -> float:
    apart = reward[good][:, None] - reward[~good][None]
    return float(((apart > 0) + (apart == 0) / 2).mean())


def of_samples(
    document: dict[str, Any], cell: Path, start: Path, reward: Path, prompts: list[str]
) -> list[Line]:
    """Return what sampled answers to held-out prompts earn, how far they stray, their length."""
    longest = document["method"]["rollout"]["max_new_tokens"]
    was, now = (
        answered(policy, start, reward, prompts, longest) for policy in (start, cell / "model")
    )
    alone = [np.array([number]) for number in range(len(prompts))]
    found = []
    for name, values in now.items():
        around = _shown(interval(alone, lambda drawn, v=values: v[drawn].mean()), 2)
        means = (f"{was[name].mean():.2f}", f"{values.mean():.2f}")
        found.append((f"{len(values)} prompts", name, *means, around))
    return found


def _evaluation(cell: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cell / "evaluation.json").read_text())
    return found


def _agree(cell: str, name: str, told: float, counted: float) -> None:
    """Raise where a run says something else of its held-out rows than a recount does."""
    if abs(told - counted) > _AGREE * max(1.0, abs(told)):
        raise SystemExit(f"{cell}: {name} is {told:.4f} by the run and {counted:.4f} by a recount")


def _shown(bounds: tuple[float, float], digits: int) -> str:
    return " – ".join(f"{bound:.{digits}f}" for bound in bounds)
