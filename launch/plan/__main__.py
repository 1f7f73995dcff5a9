"""Plan a job: `python -m launch.plan JOB [--out plan.json]`, which is what `make plan JOB=…` runs.

Exit codes: 0 it fits, 2 it does not (or the job file cannot be used).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch.plan import make_plan
from training.config import load_job
from training.errors import TemperError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        plan = make_plan(load_job(options.job, " ".join(options.set)))
        if options.out:
            plan.write(options.out)
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for name, gib in plan.memory_gib.items():
        sys.stdout.write(f"{name:12s} {gib:8.1f} GiB\n")
    sys.stdout.write(
        f"{plan.machine}: {plan.hours.low:.1f}–{plan.hours.high:.1f} h, "
        f"{plan.cost_usd.low:.0f}–{plan.cost_usd.high:.0f} USD\n"
    )
    for reason in plan.refused:
        sys.stderr.write(f"{options.job}: {reason}\n")
    return 0 if plan.fits else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch.plan", description="Plan a job.")
    parser.add_argument("job", type=Path, help="the job file")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the job file"
    )
    parser.add_argument("--out", type=Path, help="write the plan here, for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
