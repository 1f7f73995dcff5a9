"""The work of `temper doctor`: run the checks and print their results."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.doctor.checks import Check, CheckResult, run_checks
from launch.doctor.machine_checks import MachineChecks
from launch.environment import read_environment
from training.config import Job, Pipeline

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "yellow"}
_FAILED = 4


def run_doctor(
    *, env: str = "", job: Path | None = None, overrides: str = "", runs: Path = Path("runs")
) -> int:
    """Run all checks, print their results, and return the exit code: 4 if one failed.

    Args:
        env: Check the account of this environment too.
        job: The job that is to run.
        overrides: `key=value` pairs for it.
        runs: The folder of run folders.

    Raises:
        TemperError: The job or the environment cannot be read.
    """
    checks = _checks(env, job, overrides, runs)
    console = Console()
    with console.status("") as waiting:
        findings = []
        for finding in run_checks(checks):
            findings.append(finding)
            waiting.update(f"{finding.check}: {finding.outcome}")
    show(findings, console)
    return _FAILED if any(finding.outcome == "failed" for finding in findings) else 0


def show(findings: list[CheckResult], console: Console) -> None:
    """Print the results as a table, with the commands that fix the problems."""
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


def _checks(env: str, path: Path | None, overrides: str, runs: Path) -> list[Check]:
    job, needs_gib = _job_and_disk(path, overrides, env)
    checks = MachineChecks(needs_gib, runs).checks()
    if env:
        # Imported here: checks of this machine alone need not wait for boto3.
        from launch.aws.session import AwsSession
        from launch.doctor.account_checks import AccountChecks

        account = AwsSession(read_environment(env))
        checks += AccountChecks(account, job).checks()
        if account.environment.orchestrator == "eks":
            from launch.doctor.eks_checks import EksChecks

            checks += EksChecks(account).checks()
    return checks


def _job_and_disk(
    path: Path | None, overrides: str, env: str
) -> tuple[Job | Pipeline | None, float]:
    """Return the job to check, and the GiB of disk it needs on this machine."""
    if path is None:
        return None, 0.0
    from planning import make_plan
    from training.config import load_job

    job = load_job(path, overrides)
    return job, 0.0 if env else make_plan(job).disk_gib["total"]
