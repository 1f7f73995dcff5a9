"""Write `jobs/schema.json`, which editors use to complete and check job files.

`temper schema` and `make schema` run it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from pydantic import TypeAdapter

from training.config.base import ConfigSection
from training.config.job import Job, Pipeline

PATH = Path("jobs/schema.json")
_REFERENCE = "#/$defs/{model}"


def render(
    sections: Mapping[str, type[ConfigSection]] | None = None,
    jobs: tuple[type[ConfigSection], ...] = (),
) -> str:
    """Return the JSON schema of a job file.

    Args:
        sections: Further sections that a training job can have, by key, which other commands read.
        jobs: Jobs that do not train.
    """
    union: Any = Union[(Job, Pipeline, *jobs)]
    schema: dict[str, Any] = TypeAdapter(union).json_schema()
    for key, section in (sections or {}).items():
        described = section.model_json_schema(ref_template=_REFERENCE)
        schema["$defs"] |= described.pop("$defs", {})
        schema["$defs"][section.__name__] = described
        for job in (Job, Pipeline):
            properties = schema["$defs"][job.__name__]["properties"]
            properties[key] = {"$ref": _REFERENCE.format(model=section.__name__)}
    return json.dumps({"title": "A Temper job", **schema}, indent=1) + "\n"


def write_schema(
    sections: Mapping[str, type[ConfigSection]] | None = None,
    jobs: tuple[type[ConfigSection], ...] = (),
    path: Path = PATH,
) -> None:
    """Write the JSON schema of job files to `path`.

    Args:
        sections: Further sections that a training job can have, by key.
        jobs: Jobs that do not train.
        path: The file.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_text(render(sections, jobs), encoding="utf-8")
