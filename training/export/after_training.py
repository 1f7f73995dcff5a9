"""Export at the end of a run, for a job with `export: merged` or `both`."""

from __future__ import annotations

import json

from training.config import Job
from training.console import say
from training.export.formats import FORMATS
from training.run_folder import RunFolder, write_whole


def export_trained(folder: RunFolder) -> None:
    """Merge the trained adapter into its base, in the run's `export/`, and verify the result.

    Raises:
        ModelError: The adapter cannot be merged.
        GuardError: The export differs from the trained model.
    """
    assert isinstance(folder.job, Job), "stages are exported one by one"
    say("merging the adapter into its base")
    result = FORMATS["safetensors"].write(folder.model, folder.merged)
    say(f"verified: {result}")
    # A target uploads these folders; the key is the place in the upload, empty for its root.
    places = {"": str(folder.merged.relative_to(folder.path))}
    if folder.job.export == "both":
        places["adapter"] = folder.model.name
    write_whole(folder.path / "export.json", json.dumps(places) + "\n")
