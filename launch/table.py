"""Runs as a table, and one run in detail, for people at a terminal."""

from __future__ import annotations

import json
import time
from calendar import timegm
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.index import Row
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


def show_runs(rows: Iterable[Row], console: Console) -> None:
    """Print all runs, newest last, as one table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "state", "where"):
        table.add_column(name, no_wrap=name != "where")
    for name in ("step", "loss", "age", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
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
            Text(_short(status.detail), style="dim"),
        )
    if table.row_count:
        console.print(table)
    else:
        console.print("No runs yet. Start one: make train JOB=jobs/quickstart.yaml")


def show_run(row: Row, facts: dict[str, str], console: Console) -> None:
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
    """Return what a run's folder tells of it: data, hyper-parameters, plan."""
    found: dict[str, str] = {}
    try:
        job: dict[str, Any] = yaml.safe_load((folder / "job.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return found
    for run in job.get("stages", [job]):
        stage = f"{run['name']}: " if "stages" in job else ""
        sources = [source["source"] for source in run["data"].get("train", [])]
        prompts = f"{len(run['data'].get('prompts', []))} prompts"
        found[f"{stage}data"] = ", ".join(sources) or prompts
        found[f"{stage}model"] = run["model"]["source"]
        adapter = run.get("adapter", {}).get("kind", "none")
        found[f"{stage}method"] = f"{run['method']['kind']}, adapter {adapter}"
        found[f"{stage}train"] = ", ".join(f"{k} {v}" for k, v in run["train"].items() if v)
    plan = folder / "plan.json"
    if plan.exists():
        told = json.loads(plan.read_text(encoding="utf-8"))
        hours, usd = told["hours"], told["cost_usd"]
        found["planned"] = (
            f"{told['machine']}: {hours['low']:.1f} to {hours['high']:.1f} h, "
            f"{usd['low']:.2f} to {usd['high']:.2f} USD"
        )
    return found


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
