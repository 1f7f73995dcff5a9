"""Writer of `report.html`, from the files of an evaluation.

`python -m evaluation.report.page FOLDER` writes the page again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.report import formatting
from evaluation.report.items import TaskItems, read_task_items
from evaluation.results import EvaluationResult, read_results
from training.page_environment import page_environment
from training.run_folder import write_whole

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"
_HERE = Path(__file__).parent


def write_report(folder: Path) -> Path:
    """Write the page into the folder of an evaluation and return its path.

    Only that folder is read. The same files give the same page, byte for byte.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: `results.json` is not one of this format.
    """
    result = read_results(folder)
    items = {
        name: read_task_items(
            folder,
            name,
            {metric: value.higher_is_better for metric, value in task.metrics.items()},
        )
        for name, task in result.tasks.items()
    }
    path = folder / REPORT
    write_whole(path, render(result, items))
    return path


def render(result: EvaluationResult, items: dict[str, TaskItems]) -> str:
    """Return the page as HTML."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html.jinja")
    return template.render(
        result=result,
        items={name: task for name, task in items.items() if task.items},
        script=script,
        script_digest=digest,
        fact_rows=formatting.fact_rows,
        verdict=formatting.verdict,
    )


def as_script_data(value: Any) -> str:
    """Return JSON that can stand in a script element: nothing in it can end the element."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


@cache
def _environment() -> Environment:
    return page_environment(
        _HERE,
        number=formatting.number,
        signed=formatting.signed,
        p_value=formatting.p_value,
        script_data=as_script_data,
    )


if __name__ == "__main__":
    sys.stdout.write(f"{write_report(Path(sys.argv[1]))}\n")
