"""Command line of a container: `python -m containers.entrypoint COMMAND`.

Exit codes are those of training: 0 done, 2 the job, 3 the data, 4 the run, 75 stopped.
"""

from __future__ import annotations

# argparse, not temper.cli: this starts before anything is checked, from the standard library alone.
import argparse
import os
import sys
from pathlib import Path

from containers.entrypoint.prepare import PrepareOptions, prepare


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "evaluate":
        command = ["-m", "evaluation", "challenger", *options.arguments]
        os.execv(sys.executable, [sys.executable, *command])
    if options.command == "serve":
        # The server becomes the first process, which receives the signals of the service.
        os.execv(sys.executable, [sys.executable, "-m", "serving"])
    if options.command == "prepare":
        return prepare(PrepareOptions(job=options.job, overrides=tuple(options.set)))
    # The image `prepare` has no psutil, which the other commands import.
    from containers.entrypoint.health import report
    from containers.entrypoint.train import Options, train

    if options.command == "health":
        return report(required=options.devices)
    return train(
        Options(
            job=options.job,
            overrides=tuple(options.set),
            folder=options.folder,
            max_restarts=options.max_restarts,
            join_timeout_s=options.join_timeout_s,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m containers.entrypoint")
    commands = parser.add_subparsers(dest="command", required=True)
    trains = commands.add_parser("train", help="train a job on every node and device")
    trains.add_argument("job", type=Path, nargs="?", help="the job file")
    trains.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides")
    trains.add_argument("--folder", type=Path, help="the run folder (TEMPER_RUN_FOLDER)")
    trains.add_argument(
        "--max-restarts",
        type=int,
        help="how often training is restarted after a process died (TEMPER_MAX_RESTARTS; 3)",
    )
    trains.add_argument(
        "--join-timeout-s",
        type=float,
        help="how long nodes wait for each other (TEMPER_JOIN_TIMEOUT_S; 600)",
    )
    prepares = commands.add_parser("prepare", help="prepare data, on every node of a service")
    prepares.add_argument("job", type=Path, nargs="?", help="the job file")
    prepares.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides")
    commands.add_parser("serve", help="serve the model in /opt/ml/model (TEMPER_SERVE_…)")
    evaluates = commands.add_parser("evaluate", help="evaluate the model of a pipeline")
    evaluates.add_argument("arguments", nargs=argparse.REMAINDER, help="see `evaluation`")
    health = commands.add_parser("health", help="print versions, devices, NCCL and EFA")
    health.add_argument("--devices", type=int, help="fail if there are fewer accelerators")
    return parser


if __name__ == "__main__":
    sys.exit(main())
