"""Plan a job: `python -m planning JOB [--out plan.json]`, which is what `make plan JOB=…` runs.

Exit codes: 0 it fits, 2 it does not (or the job file cannot be used).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from planning import make_plan
from training.config import load_job
from training.errors import JobError, TemperError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        plan = make_plan(load_job(options.job, " ".join(options.set)))
        if options.out:
            plan.write(options.out)
    except JobError as error:
        sys.stderr.write(f"{JobError(str(options.job), error.problems)}\n")
        return error.exit_code
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"{options.out} cannot be written: {error.strerror}\n")
        return 2
    from rich.console import Console

    from planning.render import show, show_refusal

    show(plan, Console(highlight=False))
    # One line for a reason, whatever the width: it may be read by a program, or searched for.
    show_refusal(plan, str(options.job), Console(stderr=True, highlight=False, soft_wrap=True))
    return 0 if plan.fits else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m planning", description="Plan a job.")
    parser.add_argument("job", type=Path, help="the job file")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the job file"
    )
    parser.add_argument("--out", type=Path, help="write the plan here, for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
