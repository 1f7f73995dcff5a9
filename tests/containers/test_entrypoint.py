"""The entry point fulfils SageMaker's contract, with real training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.containers.image_layout import (
    ENTRY_POINT,
    clean_environment,
    failure,
    free_port,
    lay_out,
    run,
    start,
)
from tests.run_commands import Run, assert_identical, changed, finish, train_here, wait_until

# Two names of this machine, in the order of their ranks.
HOSTS = ("127.0.0.1", "localhost")


@pytest.fixture
def job(document: dict[str, Any], pairs: Path) -> dict[str, Any]:
    """Return the tiny job, with its rows in a channel."""
    return changed(document, data={"train": "channel:train", "workers": 1})


# --- bad input: one clear message, in the failure file and the log ------------------------------


BROKEN: dict[str, tuple[dict[str, Any] | None, dict[str, str], int, list[str]]] = {
    "no job": (None, {}, 2, ["no job was given", "channels here: none"]),
    "a job with mistakes": (
        {"name": "a b", "model": {}, "method": {"kind": "sfft"}},
        {},
        2,
        ["job.yaml: ", "method.kind: no such kind", "name: "],
    ),
    "a hyper-parameter that is no key": (
        {"name": "x"},
        {"epochs": "3"},
        2,
        ["epochs: no such key"],
    ),
    "a hyper-parameter that cannot be one": ({"name": "x"}, {"--fresh": "1"}, 2, ["'--fresh'"]),
    "more devices than there are": (
        {
            "resources": {"processes": 4096},
            "train": {"global_batch_size": 4096, "micro_batch_size": 1},
        },
        {},
        2,
        ["resources.processes", "cores", "4096"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_invalid_job_is_explained(case: str, tmp_path: Path, job: dict[str, Any]) -> None:
    document, hyperparameters, code, words = BROKEN[case]
    if document is not None and "method" not in document:
        document = changed(job, **document)
    root = lay_out(tmp_path / "ml", document, hyperparameters=hyperparameters)
    found, output = run(root)
    assert found == code, output
    for word in words:
        assert word in failure(root), failure(root)
        assert word in output
    assert "Traceback" not in output
    assert output.count(words[0]) == 1, "said once"
    assert sorted(p.name for p in (root / "output").iterdir()) == ["failure"]


def test_missing_devices(tmp_path: Path, job: dict[str, Any]) -> None:
    root = lay_out(tmp_path / "ml", job, instance="ml.inf2.xlarge")
    code, output = run(root)
    assert code == 4
    assert "no neuron device can be seen" in failure(root)
    assert "no neuron device can be seen" in output


@pytest.mark.parametrize("name", ["TEMPER_MAX_RESTARTS", "TEMPER_JOIN_TIMEOUT_S", "MASTER_PORT"])
def test_setting_is_not_a_number(tmp_path: Path, job: dict[str, Any], name: str) -> None:
    root = lay_out(tmp_path / "ml", job)
    code, output = run(root, **{name: "ten"})
    assert code == 2
    assert failure(root) == f"{name} must be a number, and is 'ten'\n"
    assert "Traceback" not in output


def test_malformed_secrets(tmp_path: Path, job: dict[str, Any]) -> None:
    root = lay_out(tmp_path / "ml", job)
    code, output = run(root, TEMPER_SECRETS="temper-dev/hub-token")
    assert code == 4
    assert "TEMPER_SECRETS names secrets as" in failure(root)
    assert "Traceback" not in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the mount point of a file system of 40 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_read_only_model_folder(small_disk: Path, tmp_path: Path, job: dict[str, Any]) -> None:
    root = lay_out(tmp_path / "ml", job)
    subprocess.run(["mount", "--bind", small_disk, root / "model"], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root / "model"], check=True)
        code, output = run(root)
    finally:
        subprocess.run(["umount", root / "model"], check=True)
    assert code == 4
    assert f"{root}/model cannot be written, and the trained model goes there" in failure(root)
    assert "Read-only file system" in output


@pytest.mark.root
def test_full_disk(small_disk: Path, job: dict[str, Any]) -> None:
    root = lay_out(small_disk / "ml", job)
    with (small_disk / "filler").open("wb") as filler:
        filler.write(b"0" * (30 * 2**20))
    code, output = run(root)
    assert code == 4
    assert "MiB free: no model would fit" in failure(root)
    assert "VolumeSizeInGB" in output


# --- a whole run ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_job_is_trained_and_model_copied(
    tmp_path: Path, job: dict[str, Any], pairs: Path, tiny_model: Path
) -> None:
    root = lay_out(
        tmp_path / "ml",
        job,
        channels={"train": pairs},
        hyperparameters={"train.max_steps": "4", "sagemaker_region": '"eu-west-1"'},
    )
    code, output = run(root)
    assert code == 0, output
    trained = Run(root / "checkpoints")
    assert trained.state == "finished"
    assert len(trained.samples) == 4, "the hyper-parameter went before the job"
    assert (root / "model/config.json").is_file()
    assert (root / "model/model.safetensors").is_file()
    assert failure(root) == ""
    assert list((root / "output").iterdir()) == []
    # SageMaker restarts a job whose machine was reclaimed after it had finished: nothing is redone.
    shutil.rmtree(root / "model")
    again, output = run(root)
    assert again == 0
    assert "already done" in output
    assert (root / "model/model.safetensors").is_file()
    # Another job on the same checkpoints is a mistake.
    lay_out(root, changed(job, train={"learning_rate": 0.5}), channels={"train": pairs})
    code, _ = run(root)
    assert code == 0, "a finished run is left as it is"


@pytest.mark.slow
def test_model_over_a_safety_limit_is_uploaded_with_its_reports(
    tmp_path: Path, job: dict[str, Any], pairs: Path
) -> None:
    probes = tmp_path / "probes.yaml"
    probes.write_text("requests: {harm: [Do harm.]}")
    safety = {"redteam": {"probes": str(probes), "max_new_tokens": 8, "max_answered": 0}}
    job = changed(job, train={"max_steps": 2}, evaluate={"safety": safety})
    root = lay_out(tmp_path / "ml", job, channels={"train": pairs})
    code, output = run(root)
    assert code == 5, output
    assert "request: 100% answered, at most 0%" in failure(root)
    assert "restarting" not in output
    assert (root / "model/model.safetensors").is_file()
    assert {path.name for path in (root / "output/data/safety").iterdir()} == {
        "summary.json", "redteam.json", "redteam.html",
    }  # fmt: skip


@pytest.mark.slow
def test_stop_saves_and_same_job_resumes(tmp_path: Path, job: dict[str, Any], pairs: Path) -> None:
    job = changed(job, train={"max_steps": 40})
    root = lay_out(tmp_path / "ml", job, channels={"train": pairs})
    process = start(root)
    trained = Run(root / "checkpoints")
    samples = trained.path / "samples.jsonl"
    assert wait_until(lambda: samples.exists() and samples.read_text().count("\n") > 3, process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 75, ended.out
    assert trained.checkpoints
    assert failure(root) == "", "being stopped is no failure"
    assert not (root / "model/model.safetensors").exists()
    # The same checkpoints under another job.
    other = lay_out(tmp_path / "other", changed(job, train={"learning_rate": 0.5}))
    shutil.copytree(root / "checkpoints", other / "checkpoints", dirs_exist_ok=True)
    code, _ = run(other)
    assert code == 4
    assert "holds a run of another job: it differs in train.learning_rate" in failure(other)
    code, output = run(root)
    assert code == 0, output
    assert "resuming" in output
    whole = train_here(changed(job, data={"train": str(pairs)}), tmp_path / "whole")
    assert_identical(Run(root / "checkpoints"), whole)


# --- restarts, and several nodes -----------------------------------------------------------------


class TwoNodes:
    """Two nodes on this machine, each with its own `/opt/ml`, as on SageMaker."""

    def __init__(self, home: Path, job: dict[str, Any], rows: Path):
        port = str(free_port())
        self.roots = [
            lay_out(
                home / f"algo-{rank + 1}",
                job,
                hosts=HOSTS,
                current=HOSTS[rank],
                channels={"train": rows},
                interface="lo",
            )
            for rank in range(2)
        ]
        self.environments = [
            {
                "MASTER_PORT": port,
                "TEMPER_CACHE": str(home / f"cache-{rank}"),
                "OMP_NUM_THREADS": "1",
                "TEMPER_JOIN_TIMEOUT_S": "60",
            }
            for rank in range(2)
        ]
        self.runs = [Run(root / "checkpoints") for root in self.roots]

    def start(self) -> list[subprocess.Popen[str]]:
        return [
            start(root, **environment)
            for root, environment in zip(self.roots, self.environments, strict=True)
        ]

    def steps(self) -> int:
        path = self.runs[0].path / "samples.jsonl"
        return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
def test_two_nodes_stop_resume_and_restart(
    tmp_path: Path, job: dict[str, Any], pairs: Path
) -> None:
    """Sharded over both nodes, each with its part of the checkpoint on its own disk."""
    job = changed(job, train={"max_steps": 24, "micro_batch_size": 4}, sharding={"zero": 2})
    nodes = TwoNodes(tmp_path, job, pairs)
    first, other = nodes.start()
    assert wait_until(lambda: nodes.steps() > 5, first)
    other.send_signal(signal.SIGTERM)  # one of them is told; both stop
    ends = [finish(process) for process in (first, other)]
    assert [end.code for end in ends] == [75, 75], ends[0].out + ends[1].out
    stopped_at = [run.checkpoints[-1] for run in nodes.runs]
    assert stopped_at[0] == stopped_at[1]
    names = [
        {p.name for p in (r.path / "checkpoints" / stopped_at[0]).iterdir()} for r in nodes.runs
    ]
    assert "CHECKSUMS.json" in names[0]
    assert "CHECKSUMS.node-1.json" in names[1]

    first, other = nodes.start()
    assert wait_until(lambda: nodes.steps() > 12, first)
    # A process of the second node dies, as with a broken device: both restart from a checkpoint.
    victim = next(
        p for p in psutil.Process(other.pid).children(recursive=True)
        if "training.worker" in p.cmdline() and "torch.distributed.run" not in p.cmdline()
    )  # fmt: skip
    victim.kill()
    ends = [finish(process) for process in (first, other)]
    assert [end.code for end in ends] == [0, 0], ends[0].out + ends[1].out
    assert all("restarting training" in end.out for end in ends)
    assert "localhost: the training process was killed" in ends[0].out
    assert [run.state for run in nodes.runs] == ["finished", "finished"]
    assert (nodes.roots[0] / "model/model.safetensors").exists()
    assert [step["step"] for step in nodes.runs[0].samples] == list(range(1, 25))
    whole = train_here(
        changed(job, data={"train": str(pairs)}, sharding={"zero": 0}), tmp_path / "w"
    )
    rows = [
        [(step["step"], sorted(step["ids"])) for step in r.samples] for r in (nodes.runs[0], whole)
    ]
    assert rows[0] == rows[1], "the rows of each step do not depend on nodes"


@pytest.mark.slow
def test_killed_process_restarts_from_checkpoint(
    tmp_path: Path, job: dict[str, Any], pairs: Path
) -> None:
    job = changed(job, train={"max_steps": 30}, checkpoint={"every": "3 steps"})
    root = lay_out(tmp_path / "ml", job, channels={"train": pairs})
    process = start(root)
    trained = Run(root / "checkpoints")
    samples = trained.path / "samples.jsonl"
    assert wait_until(lambda: samples.exists() and samples.read_text().count("\n") > 9, process)
    for child in psutil.Process(process.pid).children(recursive=True):
        if "training.worker" in child.cmdline():
            child.kill()
    ended = finish(process)
    assert ended.code == 0, ended.out
    assert "killed, most likely for memory" in ended.out
    assert "restarting training" in ended.out
    whole = train_here(changed(job, data={"train": str(pairs)}), tmp_path / "whole")
    assert_identical(trained, whole)


@pytest.mark.slow
def test_repeated_unexpected_error_ends_the_run(
    tmp_path: Path, job: dict[str, Any], pairs: Path
) -> None:
    """A package that fails inside the worker is tried twice, then reported."""
    root = lay_out(tmp_path / "ml", job, channels={"train": pairs})
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "trl.py").write_text("raise RuntimeError('this device is broken')\n")
    from tests.run_commands import ROOT

    code, output = run(root, PYTHONPATH=f"{broken}:{ROOT}")
    assert code == 4
    assert output.count("restarting training") == 1
    assert "this device is broken" in failure(root)
    assert "at the same step" in failure(root)


@pytest.mark.slow
def test_two_nodes_on_shared_disk(tmp_path: Path, job: dict[str, Any], pairs: Path) -> None:
    """Slurm with FSx: one run folder, written by the first node; stages work there, too."""
    stage = changed(job, data={"train": str(pairs)}, train={"max_steps": 3, "micro_batch_size": 4})
    del stage["name"]
    del stage["model"]
    first = {**stage, "name": "one", "model": job["model"]}
    document = {"name": "both", "stages": [first, {**stage, "name": "two"}]}
    (tmp_path / "job.yaml").write_text(json.dumps(document))
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [*ENTRY_POINT, "train", str(tmp_path / "job.yaml")],
            env=clean_environment(
                SLURM_JOB_ID="12",
                SLURM_JOB_NUM_NODES="2",
                SLURM_STEP_NODELIST="n[1-2]",
                SLURM_NODEID=str(rank),
                SLURM_LOCALID="0",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
                GLOO_SOCKET_IFNAME="lo",
                TEMPER_CACHE=str(tmp_path / "cache"),
                OMP_NUM_THREADS="1",
            ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    ends = [finish(process) for process in processes]
    assert [end.code for end in ends] == [0, 0], ends[0].out + ends[1].out
    folder = tmp_path / "runs/slurm-12"
    assert Run(folder).state == "finished"
    assert [Run(path).state for path in sorted((folder / "stages").iterdir())] == ["finished"] * 2
    assert (folder / "model/model.safetensors").is_file()
    assert (folder / "stages/02-two/logs/worker-1.log").is_file()


def test_batch_not_divisible_by_nodes(tmp_path: Path, job: dict[str, Any], pairs: Path) -> None:
    nodes = TwoNodes(tmp_path, changed(job, train={"micro_batch_size": 8}), pairs)
    ends = [finish(process) for process in nodes.start()]
    assert [end.code for end in ends] == [2, 2], ends[0].out + ends[1].out
    for root in nodes.roots:
        assert "must be a multiple of the 2 processes (2 nodes × 1), of 8 rows" in failure(root)


def test_stages_need_shared_disk(tmp_path: Path, job: dict[str, Any], pairs: Path) -> None:
    stage = changed(job, train={"micro_batch_size": 4})
    del stage["name"]
    document = {"name": "both", "stages": [{**stage, "name": "one"}]}
    nodes = TwoNodes(tmp_path, document, pairs)
    ends = [finish(process) for process in nodes.start()]
    assert [end.code for end in ends] == [4, 4], ends[0].out + ends[1].out
    for root in nodes.roots:
        assert "a job with stages needs a run folder that all nodes share" in failure(root)


def test_missing_node_is_named_in_failure_file(
    tmp_path: Path, job: dict[str, Any], pairs: Path
) -> None:
    nodes = TwoNodes(tmp_path, job, pairs)
    started = time.monotonic()
    code, output = run(nodes.roots[0], "--join-timeout-s", "1.5", **nodes.environments[0])
    assert code == 4
    assert "localhost did not join within 1.5 s (here: 127.0.0.1)" in failure(nodes.roots[0])
    assert "did not join" in output
    assert time.monotonic() - started < 30
