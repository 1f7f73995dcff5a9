"""`python -m containers.entrypoint train [JOB]` and `… health`: what a container runs.

Exit codes are those of training: 0 done, 2 the job, 3 the data, 4 the run, 75 stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from containers.entrypoint.health import report
from containers.entrypoint.train import Options, train


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = _parser().parse_args(arguments)
    if given.command == "health":
        return report(wanted=given.devices)
    return train(
        Options(
            job=given.job,
            overrides=tuple(given.set),
            folder=given.folder,
            max_restarts=given.max_restarts,
            join_timeout_s=given.join_timeout_s,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m containers.entrypoint")
    commands = parser.add_subparsers(dest="command", required=True)
    trains = commands.add_parser("train", help="train a job, on every node and device there is")
    trains.add_argument("job", type=Path, nargs="?", help="the job file, where it is not told")
    trains.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides")
    trains.add_argument("--folder", type=Path, help="the run folder (TEMPER_RUN_FOLDER)")
    trains.add_argument(
        "--max-restarts",
        type=int,
        help="how often training is started again after a process died (TEMPER_MAX_RESTARTS; 3)",
    )
    trains.add_argument(
        "--join-timeout-s",
        type=float,
        help="how long nodes wait for each other (TEMPER_JOIN_TIMEOUT_S; 600)",
    )
    health = commands.add_parser("health", help="print versions, devices, NCCL and EFA")
    health.add_argument("--devices", type=int, help="fail when there are fewer accelerators")
    return parser


if __name__ == "__main__":
    sys.exit(main())
