"""Watch in a container: a processing job with the captured calls, the model and the reference.

    python -m monitoring

Its settings are the variables `TEMPER_WATCH_…`, its files those of SageMaker's processing jobs:
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from monitoring.errors import WatchError
from monitoring.options import WatchOptions
from monitoring.report.document import REFERENCE
from training.errors import TemperError

ROOT = Path("/opt/ml/processing")
PREFIX = "TEMPER_WATCH_"
_NEEDED = ("NAME", "WINDOW", "ALARM", "NAMESPACE")


def options_from_environment(environment: Mapping[str, str], root: Path = ROOT) -> WatchOptions:
    """Return the options of the job.

    Args:
        environment: Environment variables of the container.
        root: Folder of the job's inputs and outputs.

    Raises:
        WatchError: A variable is missing; names all of them.
    """
    missing = [PREFIX + name for name in _NEEDED if not environment.get(PREFIX + name)]
    if missing:
        raise WatchError(f"not set: {', '.join(missing)}")
    return WatchOptions(
        log=str(root / "input/capture"),
        name=environment[f"{PREFIX}NAME"],
        model=str(root / "input/model"),
        model_name=environment.get(f"{PREFIX}MODEL"),
        reference=root / "input/reference" / REFERENCE,
        window=environment[f"{PREFIX}WINDOW"],
        alarm=environment[f"{PREFIX}ALARM"],
        out=root / "output",
        logged_share=environment.get(f"{PREFIX}LOGGED_SHARE"),
        metrics=True,
        namespace=environment[f"{PREFIX}NAMESPACE"],
    )


def main() -> int:
    """Run the watch, and return its exit code."""
    from monitoring.command import run_watch

    try:
        return run_watch(options_from_environment(os.environ))
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
