"""Write `pipelines/schema.json`, which editors use to complete and check pipeline files.

`temper schema` and `make schema` run it.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.config import PipelineSpec

PIPELINE_SCHEMA = Path("pipelines/schema.json")


def render_pipeline_schema() -> str:
    """Return the JSON schema of a pipeline file."""
    schema = {**PipelineSpec.model_json_schema(), "title": "A Temper pipeline"}
    return json.dumps(schema, indent=1) + "\n"


def write_pipeline_schema(path: Path = PIPELINE_SCHEMA) -> None:
    """Write the JSON schema of pipeline files.

    Args:
        path: The file.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_text(render_pipeline_schema(), encoding="utf-8")
