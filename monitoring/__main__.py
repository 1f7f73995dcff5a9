"""Watch in a container: a processing job with the captured calls, the model and the reference.

    python -m monitoring

Its settings are the variables `TEMPER_WATCH_…`, its files those of SageMaker's processing jobs:
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from monitoring.errors import WatchError
from monitoring.options import WatchOptions
from monitoring.report.document import BASELINE, JUDGE, REFERENCE
from training.errors import TemperError

ROOT = Path("/opt/ml/processing")
PREFIX = "TEMPER_WATCH_"
CACHE = "judge-cache"
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
    judge = environment.get(f"{PREFIX}JUDGE")
    reference = root / "input/reference"
    if judge is not None:
        check_judge(reference / JUDGE, judge)
    return WatchOptions(
        log=str(root / "input/capture"),
        name=environment[f"{PREFIX}NAME"],
        model=str(root / "input/model"),
        model_name=environment.get(f"{PREFIX}MODEL"),
        reference=reference / REFERENCE,
        judge=None if judge is None else reference / JUDGE,
        judged=int(environment.get(f"{PREFIX}JUDGED", WatchOptions.judged)),
        max_cost=float(environment[f"{PREFIX}MAX_COST"]) if judge is not None else None,
        baseline_file=None if judge is None else reference / BASELINE,
        judge_cache=root / CACHE,
        judge_is_optional=True,
        window=environment[f"{PREFIX}WINDOW"],
        alarm=environment[f"{PREFIX}ALARM"],
        out=root / "output",
        logged_share=environment.get(f"{PREFIX}LOGGED_SHARE"),
        metrics=True,
        namespace=environment[f"{PREFIX}NAMESPACE"],
    )


def check_judge(file: Path, model: str) -> None:
    """Refuse a judge of another model than the one that the role may call.

    Args:
        file: File of the judge.
        model: Model of the environment's settings.

    Raises:
        WatchError: There is no file, or it names another model or none of Bedrock.
    """
    if not file.is_file():
        raise WatchError(f"{file} is missing: put judge.yaml and baseline.json next to {REFERENCE}")
    from monitoring.judged_sample import read_single_judge

    section = read_single_judge(file).judge
    if getattr(section, "kind", "") != "bedrock" or getattr(section, "model", "") != model:
        raise WatchError(
            f"{file}: the judge must be {{kind: bedrock, model: {model}}}, which the environment "
            f"lets the job call (watch.judge.model)"
        )


def restore_cache(root: Path = ROOT) -> None:
    """Put the replies of earlier jobs where this one adds to them, so that none is paid for twice.

    Args:
        root: Folder of the job's inputs and outputs.
    """
    earlier = root / "input/reference" / CACHE
    if earlier.is_dir():
        shutil.copytree(earlier, root / CACHE, dirs_exist_ok=True)


def main() -> int:
    """Run the watch, and return its exit code."""
    from monitoring.command import run_watch

    try:
        options = options_from_environment(os.environ)
        restore_cache()
        return run_watch(options)
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
