"""Rehearse a job's way through the cloud on this machine: `make rehearse JOB=…`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from emulator.environment import emulated_environment
from emulator.instance import ContainerRuntime, NamespaceRuntime, OciRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.scenario import Scenario, ScenarioResult
from launch.local_container import container_engine
from training.errors import TemperError

CANNOT_PROVE = """\
Not proved by this: that the account has the quota and the capacity; that IAM lets these roles do
what they must (tests/infra/test_permissions.py simulates that); GPUs, EFA and NCCL; the image,
where none was named; how fast S3 and the machines are; what the service does beyond its
documentation."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        say("deploying the platform to an emulated account …")
        began = time.monotonic()
        with emulated_environment(
            options.env, work, _starter(options.image), ServiceTimings()
        ) as set_up:
            say(f"deployed in {time.monotonic() - began:.0f} s")
            for kind in ("gpu", "neuron"):
                set_up.promote_image(kind)
            outcome = Scenario(set_up, options.job, _settings(options), say).tell()
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        if options.keep:
            say(f"everything is in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    _report(outcome)
    return 0


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _settings(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the overrides, with what a job for a laptop leaves open and the cloud must know."""
    named = " ".join(options.set)
    found = [] if "resources.instance" in named else _instance(options.job)
    return (*options.set, *found)


def _instance(job: Path) -> list[str]:
    text = job.read_text(encoding="utf-8") if job.is_file() else "instance:"
    if "instance:" in text:
        return []
    say("the job names no instance: rehearsed as if for one ml.g5.xlarge, spot")
    where = "stages.0.resources" if "\nstages:" in text else "resources"
    wanted = ("instance=ml.g5.xlarge", "spot=true", "max_runtime=12h")
    return [f"{where}.{setting}" for setting in wanted]


def _starter(image: str) -> ContainerRuntime:
    return OciRuntime(container_engine(), image) if image else NamespaceRuntime()


def _report(outcome: ScenarioResult) -> None:
    say("")
    for what, count in outcome.repeated_steps.items():
        say(f"{what}: {count} steps were taken again")
    for part, seconds in outcome.seconds.items():
        say(f"{part}: {seconds:.0f} s")
    say("")
    say(CANNOT_PROVE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description=__doc__)
    parser.add_argument("job", type=Path, help="the job file; it is trained for real, here")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides")
    parser.add_argument("--env", default="dev", help="a file of environments/")
    parser.add_argument("--image", default="", help="run this image rather than this checkout")
    parser.add_argument("--keep", action="store_true", help="keep logs and folders")
    return parser


if __name__ == "__main__":
    sys.exit(main())
