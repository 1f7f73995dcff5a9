"""Write `jobs/schema.json`, which editors use to complete and check job files.

`temper schema` and `make schema` run it.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from training.config.job import Job, Pipeline

PATH = Path("jobs/schema.json")


def render() -> str:
    """Return the JSON schema of a job file."""
    schema = TypeAdapter(Job | Pipeline).json_schema()
    return json.dumps({"title": "A Temper job", **schema}, indent=1) + "\n"


def write_schema(path: Path = PATH) -> None:
    """Write the JSON schema of job files to `path`."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(render(), encoding="utf-8")
