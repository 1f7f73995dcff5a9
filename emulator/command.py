"""The work of `temper rehearse`: run a job through an emulated SageMaker account."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from deployment.spec import TARGET_KINDS
from emulator.deployments.command_runner import Main
from emulator.deployments.rehearsed_kinds import GPU
from emulator.deployments.scenario import DeploymentScenario
from emulator.environment import EmulatedEnvironment, emulated_environment
from emulator.instance import ContainerRuntime, NamespaceRuntime, OciRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.kubernetes.cluster import emulated_cluster, why_no_cluster
from emulator.scenario import Scenario, ScenarioResult
from launch.aws.import_check import check_import
from launch.local_container import container_engine
from training.config import load_job
from training.export.transformers_4 import FORMAT as TRANSFORMERS_4

LIMITS = """\
A rehearsal does not prove: that the account has the quota and the capacity; that IAM allows these
roles what they need (tests/infra/test_permissions.py simulates that); GPUs, EFA and NCCL; the
image, if none was named; the speed of S3 and of the machines; behaviour of the service that its
documentation does not describe."""


def rehearse_job(
    job: Path,
    pairs: str = "",
    *,
    env: str = "dev",
    image: str = "",
    keep: bool = False,
    deploy: Main | None = None,
) -> None:
    """Deploy the platform to an emulated account and run a job through it.

    Args:
        job: The job file. It really trains, on this machine.
        pairs: `key=value` overrides, separated by spaces.
        env: A file of `environments/`.
        image: Run this container image instead of this checkout.
        keep: Keep logs and folders.
        deploy: Runs a command line; the trained model is deployed to every target, swapped, rolled
            back and removed with it. Nothing is deployed if it is None.

    Raises:
        TemperError: The job is invalid, or a step of the rehearsal failed.
    """
    # Loaded before the deployment, which takes a minute, so that a wrong file is reported at once.
    overrides = cloud_overrides(job, (pairs,) if pairs else ())
    load_job(job, " ".join(overrides))
    work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        say("deploying the platform to an emulated account …")
        began = time.monotonic()
        with emulated_environment(env, work, _runtime(image), ServiceTimings()) as environment:
            say(f"deployed in {time.monotonic() - began:.0f} s")
            for kind in ("gpu", "neuron"):
                environment.promote_image(kind)
            result = Scenario(environment, job, overrides, say).run()
            if deploy is not None:
                rehearse_deployments(environment, job, environment.runs / result.run, deploy)
    finally:
        if keep:
            say(f"everything is in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    _report(result)


def rehearse_deployments(
    environment: EmulatedEnvironment, job: Path, run: Path, main: Main
) -> None:
    """Deploy the model of a run to every target, swap it, roll it back and remove it.

    Args:
        environment: Emulated environment.
        job: Job of the run, which also trains an adapter on its model.
        run: Folder of the run.
        main: Runs a command line.

    Raises:
        LaunchError: A step had another result than it must have.
    """
    kinds = list(TARGET_KINDS)
    if problem := why_no_cluster():
        say(f"hyperpod is left out: {problem}")
        kinds.remove("hyperpod")
    if problem := _export(environment, run):
        say(f"bedrock-import is left out: {problem}")
        kinds.remove("bedrock-import")
    adapters = _train_adapter(environment, job, run)
    with emulated_cluster(environment, GPU) as cluster:
        DeploymentScenario(environment, [run] * 3, main, say, kinds, adapters, cluster).run()


def _train_adapter(environment: EmulatedEnvironment, job: Path, run: Path) -> list[Path]:
    """Train an adapter on a run's model for two steps, here, and return its run for each version.

    A job of another kind than one stage without an adapter gives none.

    Args:
        environment: Emulated environment.
        job: Job of the run.
        run: Folder of the run.
    """
    runs = environment.work / "adapter"
    values = f"model.source={run / 'model'} adapter.kind=lora train.max_steps=2"
    done = environment.run_temper("train", str(job), "--set", values, "--runs", str(runs))
    found = sorted(runs.glob("*/latest/model/adapter_config.json"))
    if done.returncode or not found:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        say(f"an adapter is left out: the job trains none on its model {' '.join(reason)}")
        return []
    return [found[0].parents[1].resolve()] * 3


def _export(environment: EmulatedEnvironment, run: Path) -> str:
    """Export a run's model as Bedrock imports it, and return why it does not; empty if it does."""
    done = environment.run_temper("export", str(run), "--format", TRANSFORMERS_4)
    if done.returncode:
        return done.stderr or done.stdout
    region = environment.environment.region
    findings = check_import(run / "export" / TRANSFORMERS_4, region)
    return "; ".join(finding.message for finding in findings if finding.refused)


def say(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def cloud_overrides(job: Path, pairs: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return overrides that also choose an instance if neither the job nor `pairs` names one.

    A job written for a laptop leaves its instance open; a cloud target needs one.
    """
    named = " ".join(pairs)
    return (*pairs, *([] if "resources.instance" in named else _instance(job)))


def _instance(job: Path) -> list[str]:
    text = job.read_text(encoding="utf-8") if job.is_file() else "instance:"
    if "instance:" in text:
        return []
    say("the job names no instance: using one ml.g5.xlarge, spot")
    section = "stages.0.resources" if "\nstages:" in text else "resources"
    settings = ("instance=ml.g5.xlarge", "spot=true", "max_runtime=12h")
    return [f"{section}.{setting}" for setting in settings]


def _runtime(image: str) -> ContainerRuntime:
    return OciRuntime(container_engine(), image) if image else NamespaceRuntime()


def _report(result: ScenarioResult) -> None:
    say("")
    for kind, count in result.repeated_steps.items():
        say(f"{kind}: {count} steps were repeated")
    for part, seconds in result.seconds.items():
        say(f"{part}: {seconds:.0f} s")
    say("")
    say(LIMITS)
