"""Tables of a run's report: data, time and memory, plan against measurement, versions."""

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
    """Return statistics of the tokenized rows."""
    data = run_data.data
    tokens, learned = data.get("tokens"), data.get("supervised")
    rows = [
        ("Training rows", count(data.get("rows_train"))),
        ("Held-out rows", count(data.get("rows_validation"))),
        ("Training tokens", count(tokens)),
        ("Supervised tokens", percent(learned / tokens) if learned and tokens else MISSING),
        ("Maximum length", f"{count(data.get('max_length'))} tokens"),
        (
            "Document length: median, maximum",
            f"{count(data.get('median'))}, {count(data.get('longest'))} tokens",
        ),
        ("Truncated documents", percent(data.get("truncated_share"), 1)),
        (
            "Packing efficiency" if data.get("packed") else "Tokens that are not padding",
            percent(data.get("efficiency"), 1),
        ),
        ("Chat template", str(data.get("template") or "")),
        ("Streamed", "yes; the numbers are of the first window" if data.get("streamed") else ""),
    ]
    return [(name, value) for name, value in rows if value and not value.startswith(MISSING)]


def generated_rows(run_data: RunData) -> list[tuple[str, str]]:
    """Return the counts of a run that generates rows."""
    facts = run_data.generation_summary
    if not facts:
        return []
    asked, judge = mapping(facts.get("asked")), mapping(facts.get("judge"))
    teacher = mapping(facts.get("teacher"))
    spent = mapping(facts.get("spent"))
    rows = [
        ("Type of rows", str(facts.get("writes", ""))),
        ("Prompts", count(facts.get("prompts"))),
        ("Rows", count(facts.get("rows"))),
        *((f"Dropped: {why}", count(n)) for why, n in mapping(facts.get("dropped")).items()),
        *((f"Principle {name}", count(n)) for name, n in mapping(facts.get("principles")).items()),
        ("Teacher", _named(teacher)),
        ("Judge", _named(judge)),
        ("Judge requests", count(asked.get("asked"))),
        ("Retries after an unparseable answer", count(asked.get("again"))),
        ("Unparseable after all retries", count(asked.get("nonsense"))),
        ("Verdicts that changed with the order", percent(facts.get("by_order"), 1)),
        ("Verdicts for the first answer", percent(facts.get("chose_first"), 1)),
        ("Calls", count(spent.get("calls"))),
        ("Cost", f"{number(spent['usd'], 4)} USD" if "usd" in spent else MISSING),
    ]
    return [(name, value) for name, value in rows if value and not value.startswith(MISSING)]


def _named(asked: Mapping[str, Any]) -> str:
    """Return the kind and name of a teacher or judge."""
    return " ".join(str(asked[key]) for key in ("kind", "model", "source") if key in asked)


def member_weights(run_data: RunData) -> list[tuple[str, str]]:
    """Return the mean weight of each adapter of a composition, and of none if it is a choice."""
    return [(name, percent(w, 1)) for name, w in mapping(run_data.after.get("members")).items()]


def time_and_memory(run_data: RunData) -> list[tuple[str, str]]:
    """Return the duration, throughput and peak memory of a run."""
    _, speeds = run_data.series("tokens_per_second")
    _, memory = run_data.series("memory_gib")
    started, ended = str(run_data.manifest.get("started", "")), run_data.ended
    rows = [
        ("Duration with loading and evaluations", duration(run_data.seconds)),
        ("Tokens per second, median", count(_median(speeds))),
        ("Peak memory per process", f"{number(max(memory), 2)} GiB" if memory else MISSING),
        ("Tokens processed", count(run_data.sum("tokens"))),
        ("Supervised tokens", count(run_data.sum("supervised_tokens"))),
        ("Started", moment(started)),
        ("Ended", moment(ended) if run_data.state != "running" else ""),
    ]
    for stamp in run_data.manifest.get("resumed") or ():
        rows.append(("Resumed", moment(str(stamp))))
    return [(name, value) for name, value in rows if value and value != MISSING]


def plan_rows(run_data: RunData) -> list[tuple[str, str, str, str]]:
    """Return name, prediction, measurement and difference of each figure of the plan."""
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
        actual = _bounds(measured.get(key))[1]
        name = key.removesuffix("_gib").removesuffix("_usd").replace("_", " ")
        span = _unit(key, low) if low == high else f"{_unit(key, low)} to {_unit(key, high)}"
        rows.append((name, span, _unit(key, actual), _off_by(low, high, actual)))
    return rows


_PLANNED = ("memory_gib", "hours", "seconds", "cost_usd", "disk_gib", "micro_batch_size", "steps")
"""Figures of a plan that the report shows."""


def _bounds(value: Any) -> tuple[float | None, float | None]:
    """Return the low and high end of a figure; of a figure by category, its total."""
    parts = mapping(value)
    low, high = parts.get("low", parts.get("total", value)), parts.get("high")
    low, high = (v if _is_number(v) else None for v in (low, low if high is None else high))
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _off_by(low: float, high: float, actual: float | None) -> str:
    """Return the difference of a measurement from the nearest end of its predicted range."""
    if actual is not None and low <= actual <= high and low < high:
        return "within"
    return change(low if actual is not None and actual < low else high, actual)


def reproducibility(run_data: RunData) -> list[tuple[str, str]]:
    """Return the versions, hardware, seed and hashes that reproduce a run."""
    facts = run_data.manifest
    hardware, model = mapping(facts.get("hardware")), mapping(facts.get("model"))
    data = mapping(facts.get("data"))
    parameters = (
        f"{large(model.get('parameters'))}, of which {large(model.get('trainable'))} trainable"
    )
    batch = (
        f"{at(run_data.job, 'train', 'global_batch_size')} = {facts.get('micro_batch_size')} (rows)"
        f" × {hardware.get('processes')} (devices) × {facts.get('accumulation')} (accumulation)"
    )
    cores = f"{hardware.get('device_name')}, {hardware.get('cores')} cores"
    rows = [
        ("Model", str(model.get("source", ""))),
        ("Parameters", parameters if "parameters" in model else ""),
        ("Global batch size", batch if "accumulation" in facts else ""),
        ("Device", f"{device(run_data)[0]} ({cores})" if hardware else ""),
        ("Seed", str(facts.get("seed", ""))),
        ("Temper", str(facts.get("temper", ""))),
        ("Commit", str(facts.get("commit") or "")),
        ("Python", str(facts.get("python", ""))),
        (
            "Packages",
            ", ".join(f"{n} {v}" for n, v in mapping(facts.get("packages")).items() if v),
        ),
        ("Hash of the training rows", str(data.get("train") or "")),
        ("Hash of the held-out rows", str(data.get("validation") or "")),
        ("Hash of the tokenizer", str(facts.get("tokenizer") or "")),
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


def experts(run_data: RunData) -> list[tuple[str, str, str, str, str]]:
    """Return the load of the experts of each layer in the last logged steps.

    The columns are the layer, the largest and the smallest share of an expert, the entropy, and the
    experts without a token.
    """
    logged = [row["experts"] for row in run_data.steps if isinstance(row.get("experts"), list)]
    return [
        (
            str(layer["layer"]),
            percent(layer["max_share"], 1),
            percent(layer["min_share"], 1),
            number(layer["entropy"], 3),
            count(layer["dead"]),
        )
        for layer in (logged[-1] if logged else ())
    ]
