"""The tables of a run's report: its data, what it took, what exactly ran."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from training.report.formatting import (
    MISSING,
    change,
    count,
    duration,
    large,
    moment,
    number,
    percent,
)
from training.report.run_data import RunData, at, mapping
from training.report.summary import device


def data_facts(run_data: RunData) -> list[tuple[str, str]]:
    """Return the numbers of the rows as they are trained on."""
    data = run_data.data
    tokens, learned = data.get("tokens"), data.get("supervised")
    rows = [
        ("Rows to train on", count(data.get("rows_train"))),
        ("Rows held out", count(data.get("rows_validation"))),
        ("Tokens to train on", count(tokens)),
        ("Of those learned", percent(learned / tokens) if learned and tokens else MISSING),
        ("Longest row allowed", f"{count(data.get('max_length'))} tokens"),
        (
            "Median, longest document",
            f"{count(data.get('median'))}, {count(data.get('longest'))} tokens",
        ),
        ("Documents cut short", percent(data.get("truncated_share"), 1)),
        (
            "Rows are full" if data.get("packed") else "Not padding",
            percent(data.get("efficiency"), 1),
        ),
        ("Chat template", str(data.get("template") or "")),
        ("Streamed", "yes; the numbers are of the first window" if data.get("streamed") else ""),
    ]
    return [(name, value) for name, value in rows if value and not value.startswith(MISSING)]


def written(run_data: RunData) -> list[tuple[str, str]]:
    """Return what became of the prompts of a run that writes rows."""
    facts = run_data.generation_summary
    if not facts:
        return []
    asked, judge = mapping(facts.get("asked")), mapping(facts.get("judge"))
    teacher = mapping(facts.get("teacher"))
    spent = mapping(facts.get("spent"))
    rows = [
        ("Written", str(facts.get("writes", ""))),
        ("Prompts", count(facts.get("prompts"))),
        ("Rows", count(facts.get("rows"))),
        *((f"Dropped: {why}", count(n)) for why, n in mapping(facts.get("dropped")).items()),
        *((f"Judged by: {name}", count(n)) for name, n in mapping(facts.get("principles")).items()),
        ("Teacher", _named(teacher)),
        ("Judge", _named(judge)),
        ("Questions", count(asked.get("asked"))),
        ("Asked again, for want of an answer", count(asked.get("again"))),
        ("Without an answer in the end", count(asked.get("nonsense"))),
        ("Choices that the order decided", percent(facts.get("by_order"), 1)),
        ("Choices of the answer shown first", percent(facts.get("chose_first"), 1)),
        ("Calls", count(spent.get("calls"))),
        ("Spent", f"{number(spent['usd'], 4)} USD" if "usd" in spent else MISSING),
    ]
    return [(name, value) for name, value in rows if value and not value.startswith(MISSING)]


def _named(asked: Mapping[str, Any]) -> str:
    """Return who was asked."""
    return " ".join(str(asked[key]) for key in ("kind", "model", "source") if key in asked)


def time_and_memory(run_data: RunData) -> list[tuple[str, str]]:
    """Return what the run took."""
    _, speeds = run_data.series("tokens_per_second")
    _, memory = run_data.series("memory_gib")
    started, ended = str(run_data.manifest.get("started", "")), run_data.ended
    rows = [
        ("Time at work, loading and evaluations included", duration(run_data.seconds)),
        ("Tokens per second, median step", count(_median(speeds))),
        ("Peak memory of a process", f"{number(max(memory), 2)} GiB" if memory else MISSING),
        ("Tokens seen", count(run_data.sum("tokens"))),
        ("Of those learned", count(run_data.sum("supervised_tokens"))),
        ("Began", moment(started)),
        ("Ended", moment(ended) if run_data.state != "running" else ""),
    ]
    for stamp in run_data.manifest.get("resumed") or ():
        rows.append(("Went on after a stop", moment(str(stamp))))
    return [(name, value) for name, value in rows if value and value != MISSING]


def plan_rows(run_data: RunData) -> list[tuple[str, str, str, str]]:
    """Return what was predicted against what was measured."""
    predicted = mapping(run_data.plan.get("predicted")) or run_data.plan
    measured = dict(mapping(run_data.plan.get("measured")))
    _, memory = run_data.series("memory_gib")
    if memory:
        measured.setdefault("memory_gib", max(memory))
    if run_data.steps:
        measured.setdefault("seconds", run_data.seconds)
    rows = []
    for key, value in predicted.items():
        if key not in _PLANNED:
            continue
        low, high = _bounds(value)
        if low is None or high is None:
            continue
        found = _bounds(measured.get(key))[1]
        name = key.removesuffix("_gib").removesuffix("_usd").replace("_", " ")
        span = _unit(key, low) if low == high else f"{_unit(key, low)} to {_unit(key, high)}"
        rows.append((name, span, _unit(key, found), _off_by(low, high, found)))
    return rows


_PLANNED = ("memory_gib", "hours", "seconds", "cost_usd", "disk_gib", "micro_batch_size", "steps")
"""What of a plan stands in a report."""


def _bounds(value: Any) -> tuple[float | None, float | None]:
    """Return a figure's low and high end; a figure by parts counts with its total."""
    parts = mapping(value)
    low, high = parts.get("low", parts.get("total", value)), parts.get("high")
    low, high = (v if _is_number(v) else None for v in (low, low if high is None else high))
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _off_by(low: float, high: float, found: float | None) -> str:
    """Return how far a measurement lies outside of what was predicted."""
    if found is not None and low <= found <= high and low < high:
        return "within"
    return change(low if found is not None and found < low else high, found)


def what_ran(run_data: RunData) -> list[tuple[str, str]]:
    """Return versions, hardware, seed and hashes."""
    facts = run_data.manifest
    hardware, model = mapping(facts.get("hardware")), mapping(facts.get("model"))
    data = mapping(facts.get("data"))
    parameters = (
        f"{large(model.get('parameters'))}, {large(model.get('trainable'))} of them trained"
    )
    batch = (
        f"{at(run_data.job, 'train', 'global_batch_size')} = {facts.get('micro_batch_size')} a device"
        f" × {hardware.get('processes')} × {facts.get('accumulation')} accumulated"
    )
    cores = f"{hardware.get('device_name')}, {hardware.get('cores')} cores"
    rows = [
        ("Model", str(model.get("source", ""))),
        ("Parameters", parameters if "parameters" in model else ""),
        ("Rows per step", batch if "accumulation" in facts else ""),
        ("Device", f"{device(run_data)[0]} ({cores})" if hardware else ""),
        ("Seed", str(facts.get("seed", ""))),
        ("Temper", str(facts.get("temper", ""))),
        ("Commit", str(facts.get("commit") or "")),
        ("Python", str(facts.get("python", ""))),
        (
            "Packages",
            ", ".join(f"{n} {v}" for n, v in mapping(facts.get("packages")).items() if v),
        ),
        ("Training rows, hash", str(data.get("train") or "")),
        ("Held-out rows, hash", str(data.get("validation") or "")),
        ("Tokenizer, hash", str(facts.get("tokenizer") or "")),
    ]
    return [(name, value) for name, value in rows if value]


def _unit(key: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return MISSING
    if key in ("seconds", "hours"):
        return duration(value if key == "seconds" else value * 3600)
    if key in ("micro_batch_size", "steps"):
        return count(value)
    if key.endswith("_gib"):
        return f"{number(value, 2)} GiB"
    return f"{number(value, 2)} USD" if key.endswith("_usd") else number(value, 2)


def _median(values: list[float]) -> float:
    finite = sorted(value for value in values if math.isfinite(value))
    return finite[len(finite) // 2] if finite else math.nan
