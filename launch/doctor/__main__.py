"""`python -m launch.doctor`, behind `make doctor [ENV=…] [JOB=…]`.

Exit codes: 0 no check failed, 4 a check failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.doctor.checks import Check, CheckResult, run_checks
from launch.doctor.machine_checks import MachineChecks
from launch.environment import read_environment
from training.config import Job, Pipeline
from training.errors import TemperError

_STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow"}
_FAILED = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        checks = _checks(options)
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    console = Console()
    with console.status("") as waiting:
        findings = []
        for finding in run_checks(checks):
            findings.append(finding)
            waiting.update(f"{finding.check}: {finding.outcome}")
    show(findings, console)
    return _FAILED if any(finding.outcome == "failed" for finding in findings) else 0


def show(findings: list[CheckResult], console: Console) -> None:
    """Print what was found, with what mends it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.fix:
            detail.append(f"\n→ {finding.fix}", style="bold")
        table.add_row(finding.check, Text(finding.outcome, style=_STYLES[finding.outcome]), detail)
    console.print(table)


def _checks(options: argparse.Namespace) -> list[Check]:
    job, needs_gib = _read(options)
    found = MachineChecks(needs_gib, options.runs).checks()
    if options.env:
        # Imported here: whoever asks about this machine alone need not wait for boto3.
        from launch.aws.session import AwsSession
        from launch.doctor.account_checks import AccountChecks

        found += AccountChecks(AwsSession(read_environment(options.env)), job).checks()
    return found


def _read(options: argparse.Namespace) -> tuple[Job | Pipeline | None, float]:
    """Return the job that is asked about, and the disk it needs here."""
    if options.job is None:
        return None, 0.0
    from planning import make_plan
    from training.config import load_job

    job = load_job(options.job, " ".join(options.set))
    return job, 0.0 if options.env else make_plan(job).disk_gib["total"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch.doctor", description=__doc__)
    parser.add_argument("--env", default="", help="the account of this environment, too")
    parser.add_argument("--job", type=Path, help="what is to run")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
