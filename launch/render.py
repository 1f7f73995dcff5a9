"""Tables of runs for the terminal: all runs, or one in detail."""

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

from launch.run_row import RunRow
from launch.status import State, state_name

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

_PIPE_WIDTH = 160
"""Width of the table if the output is no terminal."""


NO_RUNS = "No runs yet. Start one: temper train jobs/quickstart.yaml"


def show_runs(
    rows: Iterable[RunRow], console: Console, *, creators: bool = False, nothing: str = NO_RUNS
) -> None:
    """Print runs, newest last, as one table.

    Args:
        rows: The runs.
        console: Console to print on.
        creators: Add a column with the person who submitted each run.
        nothing: Line to print if there are no runs.
    """
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    reasons: list[Text] = []
    for name in ("run", *(("creator",) if creators else ()), "state", "where"):
        table.add_column(name, no_wrap=True)
    for name in ("step", "loss", "age", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        status = row.status
        where = f"{row.target} {row.environment}".strip()
        table.add_row(
            row.run,
            *((row.creator or "unknown",) if creators else ()),
            Text(state_name(status.state, row.target), style=_STYLES[status.state]),
            where,
            "" if status.step is None else str(status.step),
            "" if status.loss is None else f"{status.loss:.4f}",
            age(row.created),
            "" if status.cost_usd is None else f"${status.cost_usd:.2f}",
        )
        if status.state == "training failed" and status.detail:
            reasons.append(Text.assemble((row.run, "bold"), f"  {_short(status.detail)}"))
    if not table.row_count:
        console.print(nothing)
        return
    console.print(table, crop=False, no_wrap=True)
    if reasons:
        console.print("\nWhy training failed (complete: temper status RUN)", style="bold")
    for reason in reasons:
        console.print(reason, soft_wrap=True)


def show_run(row: RunRow, facts: dict[str, str], console: Console) -> None:
    """Print one run, one fact per line.

    Args:
        row: Row of the index.
        facts: Further facts by label.
        console: Console to print on.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    status = row.status
    name = state_name(status.state, row.target)
    state = f"{name}{': ' + status.detail if status.detail else ''}"
    lines = {
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
    for name, value in lines.items():
        if value:
            table.add_row(name, Text(value))
    console.print(table)


def run_facts(folder: Path) -> dict[str, str]:
    """Return facts of a run from its folder: data, hyper-parameters, plan, disk usage."""
    facts: dict[str, str] = {}
    with suppress(OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        facts |= _job_facts(yaml.safe_load((folder / "job.yaml").read_text(encoding="utf-8")))
    with suppress(OSError, ValueError, KeyError, TypeError):
        facts |= _plan_facts(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts["here"] = f"{folder} ({size / 2**20:.1f} MiB)"
    return facts


def _job_facts(job: dict[str, Any]) -> dict[str, str]:
    facts = {}
    for run in job.get("stages", [job]):
        stage = f"{run['name']}: " if "stages" in job else ""
        sources = [_source(source) for source in run["data"].get("train", [])]
        facts[f"{stage}data"] = ", ".join(sources) or f"{len(run['data']['prompts'])} prompts"
        facts[f"{stage}held out"] = _held_out(run["data"].get("validation", {}))
        facts[f"{stage}model"] = run["model"]["source"]
        method, adapter = run["method"], run.get("adapter", {})
        facts[f"{stage}method"] = f"{method['kind']}{_settings(method)}"
        facts[f"{stage}adapter"] = f"{adapter.get('kind', 'none')}{_settings(adapter)}"
        facts[f"{stage}train"] = ", ".join(f"{key} {_plain(v)}" for key, v in _set(run["train"]))
    return facts


def _held_out(validation: dict[str, Any]) -> str:
    """Return the held-out data of a run: a source of its own, or a share of the training rows."""
    if validation.get("source"):
        return _source(validation["source"])
    split = validation.get("split")
    grouped = validation.get("by") == "group"
    by_group = f", by group of {validation.get('column')}" if grouped else ""
    return f"{split} of the training rows{by_group}" if split else ""


def _source(source: dict[str, Any]) -> str:
    options = (f"{key} {source[key]}" for key in ("subset", "split", "limit") if source.get(key))
    listed = ", ".join(options)
    return f"{source['source']} ({listed})" if listed else str(source["source"])


def _settings(section: dict[str, Any]) -> str:
    listed = ", ".join(f"{key} {_plain(value)}" for key, value in _set(section) if key != "kind")
    return f" ({listed})" if listed else ""


def _set(section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that have an effect: not empty, and not switched off."""
    return ((key, value) for key, value in section.items() if value not in (None, False, "", []))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plan_facts(written: dict[str, Any]) -> dict[str, str]:
    """Return the plan's prediction, and what was measured, if the run has ended."""
    plan = written.get("predicted", written)
    low, high = plan["hours"]["low"] * 3600, plan["hours"]["high"] * 3600
    planned = f"{plan['machine']}: {_duration(low)} to {_duration(high)}"
    if plan["cost_usd"]["high"]:
        planned += f", {plan['cost_usd']['low']:.2f} to {plan['cost_usd']['high']:.2f} USD"
    measured = written.get("measured", {})
    if not measured.get("hours"):
        return {"planned": planned}
    seconds = (measured["hours"] + measured.get("hours_before", 0.0)) * 3600
    gib = measured.get("memory_gib", {}).get("total")
    peak = f", {gib:.1f} of {plan['memory_gib']['total']:.1f} GiB planned" if gib else ""
    return {"planned": planned, "measured": f"{_duration(seconds)}{peak}"}


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def age(created: str) -> str:
    """Return the time since a date in its largest unit: 5m, 3h, 12d."""
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
