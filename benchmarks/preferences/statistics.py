"""Held-out results of a run: its own means, with intervals from an independent evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.preferences.independent_eval import (
    Values,
    by_prompt,
    evaluate_samples,
    held_out,
    interval,
    log_probabilities,
    scores,
)

ResultRow = tuple[str, str, str, str, str]
"""Held-out rows, metric, before, after, interval of the value after."""
_TOLERANCE = 0.02
"""Largest difference of the independent evaluation from the run, relative to the value or to 1."""


def pair_results(document: dict[str, Any], cell: Path, start: Path) -> list[ResultRow]:
    """Return accuracy and margin of chosen over rejected answers, and the loss.

    Args:
        document: The job.
        cell: Its run folder.
        start: The model that training started from.
    """
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
    results = []
    for name, (digits, values) in measured.items():
        before, after = (own[side]["validation"][name] for side in ("before", "after"))
        around = ""
        if values is not None:
            _check_agreement(cell.name, name, after, float(values.mean()))
            around = _shown(interval(groups, lambda drawn, v=values: v[drawn].mean()), digits)
        pair = (f"{before:.{digits}f}", f"{after:.{digits}f}")
        where = f"{len(rows)} pairs, {len(groups)} prompts"
        results.append((where, name, *pair, around))
    return results


def _gap(method: dict[str, Any], rows: list[dict[str, Any]], model: Path, start: Path) -> Values:
    """Return the margin of each chosen answer over its rejected one, `[rows]`."""
    if method["kind"] == "reward":
        chosen, rejected = scores(model, rows).T
        return np.asarray(chosen - rejected)
    measured = log_probabilities(model, rows)
    nats, tokens = measured[..., 0], measured[..., 1]
    if method["kind"] == "dpo":
        value = method["beta"] * (nats - log_probabilities(start, rows)[..., 0])
    else:
        # SimPO and ORPO compare means per token.
        value = method["beta"] * nats / tokens
    return np.asarray(value[:, 0] - value[:, 1])


def label_results(document: dict[str, Any], cell: Path, start: Path) -> list[ResultRow]:
    """Return AUC and margin of good against bad answers, and the loss.

    Args:
        document: The job.
        cell: Its run folder.
        start: The model that training started from.
    """
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
        "margin": (3, lambda drawn: _mean_margin(reward[drawn], good[drawn])),
        "loss": (4, lambda drawn: float(loss[drawn].mean())),
    }
    results = []
    for name, (digits, number) in numbers.items():
        value_before, value_after = (own[side]["validation"][name] for side in ("before", "after"))
        _check_agreement(cell.name, name, value_after, number(np.arange(len(rows))))
        where = f"{int(good.sum())} good, {int((~good).sum())} bad"
        around = _shown(interval(groups, number), digits)
        results.append(
            (where, name, f"{value_before:.{digits}f}", f"{value_after:.{digits}f}", around)
        )
    return results


def _mean_margin(reward: Values, good: Any) -> float:
    return float(reward[good].mean() - reward[~good].mean())


def _auc(reward: Values, good: Any) -> float:
    gaps = reward[good][:, None] - reward[~good][None]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


def sample_results(
    document: dict[str, Any], cell: Path, start: Path, reward: Path, prompts: list[str]
) -> list[ResultRow]:
    """Return reward, KL divergence and length of sampled answers to held-out prompts.

    Args:
        document: The job.
        cell: Its run folder.
        start: The model that training started from.
        reward: The reward model.
        prompts: The held-out prompts.
    """
    longest = document["method"]["rollout"]["max_new_tokens"]
    before, after = (
        evaluate_samples(policy, start, reward, prompts, longest)
        for policy in (start, cell / "model")
    )
    singles = [np.array([number]) for number in range(len(prompts))]
    results = []
    for name, values in after.items():
        around = _shown(interval(singles, lambda drawn, v=values: v[drawn].mean()), 2)
        means = (f"{before[name].mean():.2f}", f"{values.mean():.2f}")
        results.append((f"{len(values)} prompts", name, *means, around))
    return results


def _evaluation(cell: Path) -> dict[str, Any]:
    return dict(json.loads((cell / "evaluation.json").read_text()))


def _check_agreement(cell: str, name: str, reported: float, recomputed: float) -> None:
    """Stop if the run and the independent evaluation disagree.

    Raises:
        SystemExit: They differ by more than the tolerance.
    """
    if abs(reported - recomputed) > _TOLERANCE * max(1.0, abs(reported)):
        raise SystemExit(
            f"{cell}: {name} is {reported:.4f} by the run and {recomputed:.4f} recomputed"
        )


def _shown(bounds: tuple[float, float], digits: int) -> str:
    return " – ".join(f"{bound:.{digits}f}" for bound in bounds)
