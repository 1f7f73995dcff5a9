"""Export at the end of a run, for a job with `export: merged` or `both`, or `export_formats`."""

from __future__ import annotations

import json
from pathlib import Path

from training.config import Job
from training.console import say
from training.export.formats import FORMATS
from training.run_folder import RunFolder, write_whole


def export_trained(folder: RunFolder) -> None:
    """Write what a job exports at its end into the run's `export/`, and verify it.

    Raises:
        ModelError: The adapter cannot be merged, or the model has no such form.
        GuardError: An export differs from the trained model.
    """
    job = folder.job
    assert isinstance(job, Job), "stages are exported one by one"
    # A target uploads these folders; the key is the place in the upload, empty for its root.
    places = {"": folder.model.name}
    if job.export in ("merged", "both"):
        say("merging the adapter into its base")
        places[""] = _write(folder, "safetensors", folder.merged)
    if job.export == "both":
        places["adapter"] = folder.model.name
    for name in job.export_formats:
        say(f"writing the model as {name}")
        places[name] = _write(folder, name, folder.path / "export" / name)
    write_whole(folder.path / "export.json", json.dumps(places) + "\n")


def _write(folder: RunFolder, name: str, target: Path) -> str:
    """Write the model of a run in a format, and return where, relative to the run folder."""
    say(f"verified: {FORMATS[name].write(folder.model, target)}")
    return str(target.relative_to(folder.path))
