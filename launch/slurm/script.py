"""Batch script of one attempt, as a pure function of the run and the cluster."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from launch.aws.tags import tag_value
from training.config.runtime import Resources

SAVE_S = 120
"""Seconds before a preemption or the time limit at which Slurm signals the script."""
LOG = "slurm.out"
STOP = "stop"
"""Marker file in the run folder: the user stopped the run, so it must not be requeued."""


@dataclass(frozen=True)
class SlurmSettings:
    """Paths and options of a Slurm cluster.

    Attributes:
        root: Folder that every node shares.
        python: Python interpreter that has our packages, on every node.
        software: What executes jobs: `python`, a `container` image (Pyxis and Enroot), or the
            `environment` of this version on the shared file system.
        image: Image of the platform; empty for none.
        group: Group that a user of the shared folders must be a member of; empty for none.
        setup_command: Command that installs the software.
        auto_resume: HyperPod may replace a broken node and restart the job step.
        data_bucket: S3 bucket that the shared file system is linked with; empty for none.
        data_mount: Path of the linked bucket on the nodes.
        metric_namespace: CloudWatch namespace of the run's metrics; empty to publish none.
        variables: Further environment variables of a job, as pairs.
        mail: Address that Slurm mails when a job ends; empty for none.
    """

    root: PurePosixPath
    python: str
    software: Literal["python", "container", "environment"] = "python"
    image: str = ""
    group: str = ""
    setup_command: str = ""
    auto_resume: bool = False
    data_bucket: str = ""
    data_mount: str = ""
    metric_namespace: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    mail: str = ""


def batch_script(
    *,
    name: str,
    folder: PurePosixPath,
    code: PurePosixPath,
    resources: Resources,
    cluster: SlurmSettings,
    container: PurePosixPath | None = None,
    creator: str = "",
) -> str:
    """Return the batch script of one attempt of a run.

    A job is requeued, and resumes from its last checkpoint, when it is preempted, when it reaches
    its time limit, and when one of its nodes fails. Slurm itself requeues only after a node
    failure: then srun ends no sooner than Slurm has declared the node down. A job that ends by
    itself within the grace period of a preemption counts as completed, so the script requests the
    requeue.

    Args:
        name: Name of the job.
        folder: Run folder on the shared file system.
        code: Folder of our packages on the shared file system.
        resources: Nodes that the job requests.
        cluster: Paths and options of the cluster.
        container: Imported container image to run in; None to run on the node itself.
        creator: Login name of the person who submits it; empty if unknown.
    """
    options = {
        "job-name": name,
        "comment": f"temper:{name}",
        "nodes": str(resources.count),
        "ntasks-per-node": "1",
        "exclusive": "",
        "requeue": "",
        "open-mode": "append",
        "signal": f"B:USR1@{SAVE_S}",
        "output": str(folder / "logs" / LOG),
        "partition": resources.partition or "",
        "mail-user": cluster.mail,
        "mail-type": "END,FAIL" if cluster.mail else "",
        "time": str(max(1, round(resources.max_runtime / 60))) if resources.max_runtime else "",
    }
    flags = {"exclusive", "requeue"}
    lines = [
        f"#SBATCH --{key}{'' if key in flags else f'={value}'}"
        for key, value in options.items()
        if value or key in flags
    ]
    step = ["srun", "--kill-on-bad-exit=1"]
    if cluster.auto_resume:
        step.append("--auto-resume=1")
    python = cluster.python
    if container:
        step += _container_options(cluster, container)
        python = "python"
    step += [python, "-m", "containers.entrypoint", "train"]
    return _TEMPLATE.format(
        options="\n".join(lines),
        folder=shlex.quote(str(folder)),
        code=shlex.quote(str(code)),
        variables=_variables(name, creator, cluster, container),
        step=shlex.join(step),
        stop=STOP,
    )


_CONTAINER_ENVIRONMENT = {
    "PYTHONPATH": "the code of this submission, in place of that in the image",
    "PYTHONUNBUFFERED": "each line of the log at once",
    "TEMPER_CACHE": "a cache that outlives the container",
    "NVIDIA_VISIBLE_DEVICES": "Enroot's hook adds the devices only if it is set",
    "NVIDIA_DRIVER_CAPABILITIES": "the libraries of the driver that training needs",
}
"""Variables whose value on the node replaces that of the image, with the reason."""


def _container_options(cluster: SlurmSettings, container: PurePosixPath) -> list[str]:
    """Return Pyxis' options: the imported image, the shared folders, and the variables to keep.

    The container has the devices and the network of the node, so EFA needs nothing else: the entry
    point sets its variables if the kernel lists an adapter.
    """
    folders = [str(cluster.root), *([cluster.data_mount] if cluster.data_mount else [])]
    return [
        f"--container-image={container}",
        f"--container-mounts={','.join(f'{folder}:{folder}' for folder in folders)}",
        f"--container-env={','.join(_CONTAINER_ENVIRONMENT)}",
        "--no-container-mount-home",
        "--container-writable",
    ]


def _variables(
    name: str, creator: str, cluster: SlurmSettings, container: PurePosixPath | None
) -> str:
    """Return the lines that set further variables of the job."""
    values = dict(cluster.variables)
    if cluster.metric_namespace:
        values |= {
            "TEMPER_METRICS_NAMESPACE": cluster.metric_namespace,
            "TEMPER_METRICS_JOB": name,
        }
        if creator:
            values["TEMPER_METRICS_CREATOR"] = tag_value(creator)
    if container:
        values |= {
            "TEMPER_CACHE": str(cluster.root / "cache"),
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


_TEMPLATE = """#!/bin/bash
{options}

set -u
export TEMPER_RUN_FOLDER={folder}
export TEMPER_JOB="$TEMPER_RUN_FOLDER/sent.yaml"
export PYTHONPATH={code} PYTHONUNBUFFERED=1
{variables}cd {code}

# Sent before a preemption or the time limit: let the run save a checkpoint, then requeue the job.
requeue=0
save_and_requeue() {{
    requeue=1
    echo "signalled by Slurm: saving"
    scancel --signal=USR1 "$SLURM_JOB_ID.0" || kill -USR1 "$step"
}}
trap save_and_requeue USR1

echo "start ${{SLURM_RESTART_COUNT:-0}} on $SLURM_JOB_NODELIST"
{step} &
step=$!
# A trapped signal interrupts `wait` while the step is still running.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do code=0; wait "$step" || code=$?; done
echo "end with code $code"
# Codes above 128 mean a signal from outside, for example from a node that returns after it was
# declared down and kills what it takes for the job's earlier start. Retry that a few times only.
if [ "$code" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 5 ]; then requeue=1; fi
if [ "$requeue" = 1 ] && [ "$code" != 0 ] && [ ! -e "$TEMPER_RUN_FOLDER/{stop}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm has taken the job back
fi
exit "$code"
"""
