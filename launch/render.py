"""Runs as a table, and one run in detail, for people at a terminal."""

from __future__ import annotations

import json
import time
from calendar import timegm
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.run_index import RunRow
from launch.status import State

_STYLES: dict[State, str] = {
    "planned": "cyan",
    "training": "bold green",
    "training failed": "bold red",
    "stopping": "yellow",
    "stopped": "yellow",
    "not deployed": "",
    "deploying": "cyan",
    "deployed": "green",
}

_LONGEST_LINE = 160
"""Where nobody sees a terminal's width, as in a pipe."""


def show_runs(rows: Iterable[RunRow], console: Console) -> None:
    """Print all runs, newest last, as one table."""
    if not console.is_terminal:
        console.width = max(console.width, _LONGEST_LINE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    reasons: list[Text] = []
    for name in ("run", "state", "where"):
        table.add_column(name, no_wrap=True)
    for name in ("step", "loss", "age", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        status = row.status
        where = f"{row.target} {row.environment}".strip()
        table.add_row(
            row.run,
            Text(status.state, style=_STYLES[status.state]),
            where,
            "" if status.step is None else str(status.step),
            "" if status.loss is None else f"{status.loss:.4f}",
            age(row.created),
            "" if status.cost_usd is None else f"${status.cost_usd:.2f}",
        )
        if status.state == "training failed" and status.detail:
            reasons.append(Text.assemble((row.run, "bold"), f"  {_short(status.detail)}"))
    if not table.row_count:
        console.print("No runs yet. Start one: make train JOB=jobs/quickstart.yaml")
        return
    console.print(table, crop=False, no_wrap=True)
    if reasons:
        console.print("\nWhy training failed (all of it: make status RUN=…)", style="bold")
    for reason in reasons:
        console.print(reason, soft_wrap=True)


def show_run(row: RunRow, facts: dict[str, str], console: Console) -> None:
    """Print one run, a fact to a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    status = row.status
    state = f"{status.state}{': ' + status.detail if status.detail else ''}"
    shown = {
        "run": row.run,
        "state": state,
        "where": f"{row.target} {row.environment}".strip(),
        "jobs": "\n".join(row.jobs),
        "creator": row.creator,
        "created": row.created,
        "step": "" if status.step is None else str(status.step),
        "loss": "" if status.loss is None else f"{status.loss:.4f}",
        "machine time": "" if status.seconds is None else f"{status.seconds / 3600:.2f} h",
        "cost so far": "" if status.cost_usd is None else f"at most {status.cost_usd:.2f} USD",
        **facts,
    }
    for name, value in shown.items():
        if value:
            table.add_row(name, Text(value))
    console.print(table)


def facts_of(folder: Path) -> dict[str, str]:
    """Return what a run's folder tells of it: data, hyper-parameters, plan, disk."""
    found: dict[str, str] = {}
    with suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        found |= _job_facts(yaml.safe_load((folder / "job.yaml").read_text(encoding="utf-8")))
    with suppress(OSError, ValueError, KeyError, TypeError):
        found |= _plan_facts(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    found["here"] = f"{folder} ({here / 2**20:.1f} MiB)"
    return found


def _job_facts(job: dict[str, Any]) -> dict[str, str]:
    found = {}
    for run in job.get("stages", [job]):
        stage = f"{run['name']}: " if "stages" in job else ""
        sources = [_source(source) for source in run["data"].get("train", [])]
        found[f"{stage}data"] = ", ".join(sources) or f"{len(run['data']['prompts'])} prompts"
        found[f"{stage}model"] = run["model"]["source"]
        method, adapter = run["method"], run.get("adapter", {})
        found[f"{stage}method"] = f"{method['kind']}{_settings(method)}"
        found[f"{stage}adapter"] = f"{adapter.get('kind', 'none')}{_settings(adapter)}"
        found[f"{stage}train"] = ", ".join(f"{key} {_plain(v)}" for key, v in _set(run["train"]))
    return found


def _source(source: dict[str, Any]) -> str:
    picked = (f"{key} {source[key]}" for key in ("subset", "split", "limit") if source.get(key))
    told = ", ".join(picked)
    return f"{source['source']} ({told})" if told else str(source["source"])


def _settings(section: dict[str, Any]) -> str:
    told = ", ".join(f"{key} {_plain(value)}" for key, value in _set(section) if key != "kind")
    return f" ({told})" if told else ""


def _set(section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that say something: no empty ones, no switches that are off."""
    return ((key, value) for key, value in section.items() if value not in (None, False, "", []))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plan_facts(written: dict[str, Any]) -> dict[str, str]:
    """Return what was foreseen, and beside it what was measured."""
    plan = written.get("predicted", written)
    low, high = plan["hours"]["low"] * 3600, plan["hours"]["high"] * 3600
    told = f"{plan['machine']}: {_duration(low)} to {_duration(high)}"
    if plan["cost_usd"]["high"]:
        told += f", {plan['cost_usd']['low']:.2f} to {plan['cost_usd']['high']:.2f} USD"
    measured = written.get("measured", {})
    if not measured.get("hours"):
        return {"planned": told}
    seconds = (measured["hours"] + measured.get("hours_before", 0.0)) * 3600
    gib = measured.get("memory_gib", {}).get("total")
    peak = f", {gib:.1f} of {plan['memory_gib']['total']:.1f} GiB foreseen" if gib else ""
    return {"planned": told, "measured": f"{_duration(seconds)}{peak}"}


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def age(created: str) -> str:
    """Return how long ago something was, in its largest unit: 5m, 3h, 12d."""
    try:
        seconds = time.time() - timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


def _short(detail: str) -> str:
    first = detail.strip().splitlines()[0] if detail.strip() else ""
    return first if len(first) <= 160 else f"{first[:157]}…"
