"""Write `jobs/schema.json`, which editors use to complete and check job files.

Run it with `make schema`.
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


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render())
