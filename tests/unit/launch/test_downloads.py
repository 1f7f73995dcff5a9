"""Planted names in buckets and archives: no download or extraction leaves its folder."""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pytest

from emulator.environment import EmulatedEnvironment
from emulator.s3_sync import EmulatedBucket
from launch.aws.model_archive import unpack_model
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession
from launch.downloads import path_within
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError
from launch.slurm.fetch import fetch_files
from launch.submission import Attempt, Submission
from launch.targets.eks import EksTarget
from launch.targets.sagemaker import SageMakerTarget
from tests.unit.launch.conftest import boto

RUN = "planted/20261101-120000-ab12"


def file_member(name: str, content: bytes = b"data") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def link_member(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member, b""


def device_member(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member, b""


Members = list[tuple[tarfile.TarInfo, bytes]]

PLANTED: dict[str, Callable[[Path], Members]] = {
    "absolute": lambda out: [file_member(f"{out}/planted")],
    "parent": lambda out: [file_member("a/../../outside/planted")],
    "link to outside": lambda out: [link_member("a", str(out)), file_member("a/planted")],
    "relative link": lambda out: [link_member("a", "../outside"), file_member("a/planted")],
    "link after file": lambda out: [file_member("b"), link_member("c", "../outside/secret")],
    # The text of neither link leads out; the second, followed through the first, does.
    "link through link": lambda out: [
        file_member("deep/er/x"),
        link_member("b", "deep/er"),
        link_member("c", "b/../../../outside/secret"),
    ],
    "hard link": lambda out: [link_member("a", "../outside/secret", tarfile.LNKTYPE)],
    "absolute hard link": lambda out: [link_member("a", f"{out}/secret", tarfile.LNKTYPE)],
    "hard link to link": lambda out: [
        link_member("a", "../outside/secret"),
        link_member("b", "a", tarfile.LNKTYPE),
    ],
    "pipe": lambda out: [device_member("a")],
}


def pack(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder next to the run folder, with a file that a planted name may try to reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("mine")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


class ArchiveShell:
    """Shell whose machine sends one archive, whatever it is asked."""

    label = "login"

    def __init__(self, archive: Path):
        self.archive = archive

    def command(self, script: str) -> list[str]:
        return ["bash", "-c", f"cat {shlex.quote(str(self.archive))}"]


def unpack_from_bucket(archive: Path, folder: Path) -> None:
    unpack_model(archive, folder / "model")


def unpack_from_cluster(archive: Path, folder: Path) -> None:
    shell = ArchiveShell(archive)
    fetch_files(shell, PurePosixPath("/fsx/runs/a"), folder, skip=(), archive=False)


@pytest.mark.parametrize("unpack", [unpack_from_bucket, unpack_from_cluster])
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_archive(
    unpack: Callable[[Path, Path], None], planted: str, outside: Path, folder: Path, tmp_path: Path
) -> None:
    good = file_member("./config.json")
    archive = pack(tmp_path / "planted.tar.gz", [good, *PLANTED[planted](outside)])
    with pytest.raises(LaunchError, match=r"leads out of|is a device or a pipe"):
        unpack(archive, folder)
    assert files_below(outside) == {"secret"} and (outside / "secret").read_text() == "mine"
    assert (outside / "secret").stat().st_nlink == 1
    assert files_below(folder) == set()


@pytest.mark.parametrize("unpack", [unpack_from_bucket, unpack_from_cluster])
def test_archive_with_links_inside(
    unpack: Callable[[Path, Path], None], folder: Path, tmp_path: Path
) -> None:
    """Links within the archive stay; tar itself writes hard links for files with two names."""
    source = tmp_path / "source"
    (source / "weights").mkdir(parents=True)
    (source / "weights/a.bin").write_bytes(b"1" * 100_000)
    os.link(source / "weights/a.bin", source / "same.bin")
    (source / "latest").symlink_to("weights/a.bin")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(source, ".")
    unpack(tmp_path / "model.tar.gz", folder)
    place = folder / "model" if unpack is unpack_from_bucket else folder
    assert files_below(place) == {"weights/a.bin", "same.bin", "latest"}
    assert {(place / name).read_bytes() for name in files_below(place)} == {b"1" * 100_000}


def submission_in(folder: Path, target: str) -> Submission:
    attempt = Attempt("planted-20261101-120000-ab12")
    return Submission(folder, RUN, target, "dev", "me", "", (attempt,))  # type: ignore[arg-type]


def put(emulated: EmulatedEnvironment, bucket: str, keys: Iterable[str]) -> None:
    for key in keys:
        boto(emulated, "s3").put_object(Bucket=bucket, Key=key, Body=b"planted")


def clear(emulated: EmulatedEnvironment, bucket: str, prefix: str) -> None:
    objects = boto(emulated, "s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    for entry in objects:
        boto(emulated, "s3").delete_object(Bucket=bucket, Key=entry["Key"])


@pytest.mark.parametrize("name", ["{out}/planted", "../outside/planted", "a/../../outside/planted"])
@pytest.mark.parametrize("kind", ["sagemaker", "eks"])
def test_planted_object(
    kind: str,
    name: str,
    emulated: EmulatedEnvironment,
    account: AwsSession,
    outside: Path,
    folder: Path,
) -> None:
    if kind == "eks":
        target: EksTarget | SageMakerTarget = EksTarget(
            account, Kubectl("kubeflow"), KubernetesSettings()
        )
        bucket, prefix = target.platform["buckets/data"], f"runs/{RUN}/"
    else:
        target = SageMakerTarget(account)
        bucket, prefix = target.platform["buckets/runs"], f"checkpoints/{RUN}/"
    planted = prefix + name.format(out=outside)
    put(emulated, bucket, [f"{prefix}metrics.jsonl", f"{prefix}samples/", planted])
    submission = submission_in(folder, kind)
    with pytest.raises(LaunchError, match="leads out of") as error:
        target.fetch(submission, archive=False, checkpoints=True)
    assert planted in str(error.value)
    assert files_below(outside) == {"secret"} and files_below(folder) == set()
    boto(emulated, "s3").delete_object(Bucket=bucket, Key=planted)
    # A link that is in the run folder already leads nowhere, either.
    put(emulated, bucket, [f"{prefix}samples/planted"])
    (folder / "samples").symlink_to(outside)
    with pytest.raises(LaunchError, match="leads out of"):
        target.fetch(submission, archive=False, checkpoints=True)
    assert files_below(outside) == {"secret"}
    (folder / "samples").unlink()
    # The empty object that the S3 console creates for a folder is not a file.
    target.fetch(submission, archive=False, checkpoints=True)
    assert files_below(folder) == {"metrics.jsonl", "samples/planted"}
    clear(emulated, bucket, prefix)


def test_planted_object_in_rehearsal(
    emulated: EmulatedEnvironment, account: AwsSession, outside: Path, folder: Path
) -> None:
    bucket = SageMakerTarget(account).platform["buckets/data"]
    put(emulated, bucket, ["uploads/p/../../outside/planted"])
    with pytest.raises(LaunchError, match="leads out of"):
        EmulatedBucket(boto(emulated, "s3")).download(S3Uri(bucket, "uploads/p/"), folder)
    assert files_below(outside) == {"secret"}
    clear(emulated, bucket, "uploads/p/")


def test_names_inside(folder: Path) -> None:
    assert path_within(folder, "./a/..b/c", "s3://x") == folder / "a/..b/c"
    for name in ("", ".", "a\0b"):
        with pytest.raises(LaunchError):
            path_within(folder, name, "s3://x")
