"""The batch script of one attempt, as a pure function of the run and the cluster."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from training.config.runtime import Resources

SAVE_S = 120
"""How long before a preemption or the end of its time the script is told."""
LOG = "slurm.out"
STOP = "stop"
"""A file in the run folder: a person wants the run to end, so it is not queued again."""


@dataclass(frozen=True)
class SlurmSettings:
    """What a job must know of a cluster.

    Attributes:
        root: A folder that every node sees.
        python: What runs our code on a node.
        container: Whether nodes start images (Pyxis and Enroot) rather than `python`.
        auto_resume: Whether the step may ask HyperPod to replace a broken node and go on.
        data_bucket: The bucket that the file system is linked with, and
        data_mount: where.
    """

    root: PurePosixPath
    python: str
    container: bool = False
    auto_resume: bool = False
    data_bucket: str = ""
    data_mount: str = ""


def batch_script(
    *,
    name: str,
    folder: PurePosixPath,
    code: PurePosixPath,
    resources: Resources,
    cluster: SlurmSettings,
) -> str:
    """Return the script of one attempt of a run.

    A preempted job, one that ran into its time limit, and one whose node died is queued again and
    goes on from its last checkpoint. Slurm does not queue a job again that ended by itself within
    the grace period: the script asks for that. It does so by itself when a node died, because srun
    ends no sooner than Slurm has given that node up.

    Args:
        name: Of the job.
        folder: The run folder, on the shared file system.
        code: Where our packages are.
        resources: The machines.
        cluster: Where it runs.
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
    if cluster.container and resources.image:
        step += [f"--container-image={resources.image}"]
        step += [f"--container-mounts={cluster.root}:{cluster.root}"]
    step += [cluster.python, "-m", "containers.entrypoint", "train"]
    where = shlex.quote(str(folder))
    return _TEMPLATE.format(
        options="\n".join(lines),
        folder=where,
        code=shlex.quote(str(code)),
        step=shlex.join(step),
        stop=STOP,
    )


_TEMPLATE = """#!/bin/bash
{options}

set -u
export TEMPER_RUN_FOLDER={folder}
export TEMPER_JOB="$TEMPER_RUN_FOLDER/sent.yaml"
export PYTHONPATH={code} PYTHONUNBUFFERED=1
cd {code}

# Told before a preemption or the end of the time: let the run save, then queue the job again.
told=0
save_and_queue_again() {{
    told=1
    echo "told to make room: saving"
    scancel --signal=USR1 "$SLURM_JOB_ID.0" || kill -USR1 "$step"
}}
trap save_and_queue_again USR1

echo "start ${{SLURM_RESTART_COUNT:-0}} on $SLURM_JOB_NODELIST"
{step} &
step=$!
# A trapped signal ends `wait` while the step goes on.
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do code=0; wait "$step" || code=$?; done
echo "end with code $code"
# 128 and more: killed from outside, as when a node that was given up comes back and ends what it
# takes for the job's earlier start. A few times may be bad luck; more is no accident.
if [ "$code" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 5 ]; then told=1; fi
if [ "$told" = 1 ] && [ "$code" != 0 ] && [ ! -e "$TEMPER_RUN_FOLDER/{stop}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm has taken the job back
fi
exit "$code"
"""
