"""Software of a Slurm cluster: what a job runs in, its installation, and the checks before it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from catalog.run_metrics import metric_namespace
from launch.errors import LaunchError
from launch.slurm.preflight import check_cluster
from launch.slurm.script import SlurmSettings, batch_script
from launch.slurm.shell import LocalShell
from launch.slurm.software import (
    LOCKS,
    describe_software,
    environment_digest,
    environment_folder,
    image_file,
    install_software,
)
from training.config.runtime import Resources

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/gpu@sha256:" + "a" * 64
FIX = "make cluster-software ENV=dev"
PYXIS = "      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a node of one partition, with Pyxis, whose user is a member of `temper`."""
    programs = {
        "sbatch": "",
        "sinfo": "echo n1",
        "getent": "echo temper:x:59000:ubuntu",
        "id": "echo ubuntu temper",
        # Executes a step on this machine, as Slurm would on a node.
        "srun": f"""[ "$1" = --help ] && {{ echo '{PYXIS}'; exit; }}
while [ "$1" != bash ]; do echo "$1" >>{tmp_path}/srun; shift; done
SLURM_JOB_ID=7 exec "$@" """,
    }
    for name, text in programs.items():
        program(tmp_path, name, text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def program(node: Path, name: str, text: str) -> None:
    (node / "bin").mkdir(exist_ok=True)
    (node / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
    (node / "bin" / name).chmod(0o755)


def settings(node: Path, software: Any = "container", **more: Any) -> SlurmSettings:
    root = PurePosixPath(node / "fsx/temper")
    return SlurmSettings(
        root,
        more.pop("python", ""),
        software=software,
        image=more.pop("image", IMAGE),
        group="temper",
        setup_command=FIX,
        **more,
    )


def refusal(cluster: SlurmSettings, resources: Resources | None = None) -> str:
    with pytest.raises(LaunchError) as refused:
        check_cluster(LocalShell(), cluster, resources or Resources())
    return str(refused.value)


def test_everything_that_is_missing_is_named_at_once_with_its_fix(node: Path) -> None:
    program(node, "srun", "echo usage")
    program(node, "id", "echo ubuntu")
    program(node, "sinfo", "echo n1")
    (node / "fsx").write_text("a file in place of the shared file system")
    message = refusal(settings(node), Resources(count=4))
    for part in (
        "the cluster has 1 nodes, and the job requests 4",
        "no member of the group temper",
        "cannot be written; the log of the node's lifecycle script says why",
        "hyperpod.container_packages, or set hyperpod.software: environment",
        f"is not imported to {image_file(settings(node), IMAGE)}; import it: {FIX}",
    ):
        assert part in message, message


def test_a_missing_group_points_to_the_lifecycle_script(node: Path) -> None:
    program(node, "getent", "exit 2")
    assert "there is no group temper on the node" in refusal(settings(node))


def test_a_platform_without_an_image_is_refused_with_a_fix(node: Path) -> None:
    assert "temper publish-image gpu" in refusal(settings(node, image=""))


def test_an_image_of_the_job_is_named_in_the_fix(node: Path) -> None:
    assert f"{FIX} IMAGE=mine:1" in refusal(settings(node), Resources(image="mine:1"))


def test_an_environment_of_another_version_does_not_count(node: Path) -> None:
    cluster = settings(node, "environment")
    folder = Path(environment_folder(cluster))
    old = folder.with_name("0123456789abcdef")
    old.mkdir(parents=True)
    (old / "complete").touch()
    assert f"build it: {FIX}" in refusal(cluster)
    folder.mkdir()
    assert "build it" in refusal(cluster)  # unfinished
    (folder / "complete").touch()
    check_cluster(LocalShell(), cluster, Resources())


def test_an_imported_image_passes_the_check(node: Path) -> None:
    program(
        node,
        "enroot",
        f'echo "$@" >{node}/enroot; cat "$ENROOT_CONFIG_PATH/.credentials" >{node}/credentials\n'
        'echo image >"$3"',
    )
    program(node, "aws", "echo a-token-for $4")
    cluster = settings(node)
    (node / "fsx/temper/images").mkdir(parents=True)
    list(install_software(LocalShell(), cluster))
    check_cluster(LocalShell(), cluster, Resources())
    source = "docker://123456789012.dkr.ecr.us-east-1.amazonaws.com#temper-dev/gpu@sha256:"
    assert source in (node / "enroot").read_text()
    assert (node / "credentials").read_text() == (
        "machine 123456789012.dkr.ecr.us-east-1.amazonaws.com login AWS password "
        "a-token-for us-east-1\n"
    )
    [file] = (node / "fsx/temper/images").iterdir()
    assert file.name.startswith("gpu-") and file.stat().st_mode & 0o444 == 0o444
    # The second import finds the file of the first.
    (node / "enroot").unlink()
    list(install_software(LocalShell(), cluster))
    assert not (node / "enroot").exists()


def test_a_failed_import_leaves_no_image(node: Path) -> None:
    program(node, "enroot", 'echo half >"$3"; echo "[ERROR] 401 Unauthorized" >&2; exit 1')
    program(node, "aws", "echo token")
    (node / "fsx/temper/images").mkdir(parents=True)
    with pytest.raises(LaunchError, match="401 Unauthorized"):
        list(install_software(LocalShell(), settings(node)))
    assert "is not imported" in refusal(settings(node))


def test_an_environment_is_built_from_the_locks_once(node: Path) -> None:
    made = f'mkdir -p $3/bin; printf "#!/bin/bash\\necho \\$@ >>{node}/pip" >$3/bin/python; '
    program(node, "python3.13", f"{made} chmod 755 $3/bin/python")
    cluster = settings(node, "environment")
    for _ in range(2):
        list(install_software(LocalShell(), cluster))
    check_cluster(LocalShell(), cluster, Resources())
    calls = (node / "pip").read_text().splitlines()
    assert len(calls) == 3
    assert "install torch==2.13" in calls[0]
    assert all("--require-hashes" in call for call in calls[1:])
    locks = environment_folder(cluster).with_suffix(".lock")
    copied = {p.name: p.read_bytes() for p in Path(locks).iterdir()}
    assert set(copied) == {Path(name).name for name in LOCKS}


def test_a_package_that_cannot_be_installed_leaves_the_environment_unfinished(node: Path) -> None:
    made = 'mkdir -p $3/bin; printf "#!/bin/bash\\necho no such package; exit 1" >$3/bin/python; '
    program(node, "python3.13", f"{made} chmod 755 $3/bin/python")
    with pytest.raises(LaunchError, match="no such package"):
        list(install_software(LocalShell(), settings(node, "environment")))
    assert "build it" in refusal(settings(node, "environment"))


def test_the_digest_of_an_environment_is_that_of_its_locks(tmp_path: Path) -> None:
    for name in LOCKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("torch==2.13.0\n")
    before = environment_digest(tmp_path)
    (tmp_path / LOCKS[0]).write_text("torch==2.13.1\n")
    assert environment_digest(tmp_path) != before


def script_of(cluster: SlurmSettings, container: PurePosixPath | None) -> str:
    return batch_script(
        name="tiny-1",
        folder=PurePosixPath("/fsx/temper/runs/tiny/1"),
        code=PurePosixPath("/fsx/temper/code/0123"),
        resources=Resources(count=2),
        cluster=cluster,
        container=container,
        creator="CORP\\anna",
    )


def test_script_of_a_job_in_a_container(tmp_path: Path) -> None:
    cluster = SlurmSettings(
        PurePosixPath("/fsx/temper"), "", software="container", image=IMAGE, auto_resume=True
    )
    cluster = SlurmSettings(**{**vars(cluster), "data_mount": "/fsx/data"})
    text = script_of(cluster, image_file(cluster, IMAGE))
    [step] = [line for line in text.splitlines() if line.startswith("srun ")]
    options = step.split()
    assert "--auto-resume=1" in options
    assert f"--container-image={image_file(cluster, IMAGE)}" in options
    assert "--container-mounts=/fsx/temper:/fsx/temper,/fsx/data:/fsx/data" in options
    assert options[-5:] == ["python", "-m", "containers.entrypoint", "train", "&"]
    # The image has a PYTHONPATH of its own, which would hide the code of this submission.
    [kept] = [o.partition("=")[2] for o in options if o.startswith("--container-env=")]
    names = kept.split(",")
    exported = [line for line in text.splitlines() if line.startswith("export ")]
    assert all(any(f"{name}=" in line for line in exported) for name in names)
    assert {"PYTHONPATH", "NVIDIA_VISIBLE_DEVICES"} <= set(names)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_script_of_a_job_on_the_node_has_no_container(tmp_path: Path) -> None:
    cluster = SlurmSettings(PurePosixPath("/fsx/temper"), "/opt/python")
    text = script_of(cluster, None)
    assert "--container" not in text and "NVIDIA_VISIBLE_DEVICES" not in text
    assert "/opt/python -m containers.entrypoint train" in text


@pytest.mark.parametrize(
    ("software", "expected"),
    [("container", IMAGE), ("environment", environment_digest()), ("python", "/mine/python")],
)
def test_the_quote_says_what_a_job_runs_in(tmp_path: Path, software: str, expected: str) -> None:
    cluster = settings(tmp_path, software, python="/mine/python")
    assert expected in describe_software(cluster, "")


def test_script_tells_the_run_where_to_publish_its_metrics() -> None:
    cluster = SlurmSettings(
        PurePosixPath("/fsx/temper"),
        "python",
        metric_namespace=metric_namespace("temper-dev"),
        variables=(("AWS_REGION", "eu-west-1"),),
    )
    lines = script_of(cluster, None).splitlines()
    assert "export TEMPER_METRICS_NAMESPACE=Temper/temper-dev" in lines
    assert "export TEMPER_METRICS_JOB=tiny-1" in lines
    assert "export TEMPER_METRICS_CREATOR=CORP/anna" in lines
    assert "export AWS_REGION=eu-west-1" in lines
    without = script_of(SlurmSettings(PurePosixPath("/fsx/temper"), "python"), None)
    assert "TEMPER_METRICS" not in without
