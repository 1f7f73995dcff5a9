"""Inputs of a job that must be available where it runs: files, folders and S3 addresses.

The schema marks the keys that name them (`training.config.locations`). Each becomes an artifact
with an input channel, and the job that is sent to the target names the new paths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from launch.errors import LaunchError
from training.config import Job, Pipeline
from training.config.locations import existing_path, locations, put
from training.config.model import PREVIOUS, SCRATCH
from training.errors import JobError, Problem
from training.run_folder import resolved_yaml

_OURS = frozenset((SCRATCH, PREVIOUS))
_ENDPOINT_KEYS = ("judge", "teacher")
_REMOTE_KINDS = ("openai", "bedrock")
_ILLEGAL = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class InputArtifact:
    """File, folder or S3 address that a job reads.

    Attributes:
        key: Key of the job that names it, such as `data.train.0.source`.
        channel: Name of its input channel, unique in the job.
        source: Path or S3 address as the job writes it.
        path: Path on this machine; None for an S3 address.
        version: Digest of the objects at an S3 address, if they were listed.
    """

    key: str
    channel: str
    source: str
    path: Path | None
    version: str = ""

    @property
    def base_name(self) -> str:
        """Name of the file or folder in the channel; empty for an S3 prefix."""
        if self.path is not None:
            return self.path.name
        last = self.source.rpartition("/")[2]
        return last if "." in last else ""

    @property
    def s3_uri(self) -> str:
        """Address in S3, of one object or of everything below a folder.

        A folder's address ends in `/`: SageMaker reads every object whose address begins with it,
        and `s3://b/rows` would also match `s3://b/rows-old`.
        """
        return self.source if self.base_name or self.source.endswith("/") else f"{self.source}/"

    @property
    def files(self) -> list[Path]:
        """Files to upload, in order; none for an S3 address.

        Raises:
            LaunchError: The folder is empty.
        """
        if self.path is None:
            return []
        if self.path.is_file():
            return [self.path]
        files = sorted(p for p in self.path.rglob("*") if p.is_file() and not _hidden(p, self.path))
        if not files:
            raise LaunchError(f"{self.key}: the folder {self.path} is empty")
        return files

    def relative_path(self, file: Path) -> str:
        """Return the path of a file in the channel, which begins with the base name."""
        assert self.path is not None
        if file == self.path:
            return file.name
        return f"{self.path.name}/{file.relative_to(self.path).as_posix()}"

    @property
    def size_bytes(self) -> int:
        """Total size of the files to upload."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def summary(self) -> str:
        """Line of a quote that describes what happens to the input."""
        if self.path is None:
            return f"reads {self.source} ({self.key})"
        return f"copies {self.path} ({self.size_bytes / 2**20:.1f} MiB; {self.key})"

    @cached_property
    def digest(self) -> str:
        """Digest of names and contents, by which the same input is never uploaded twice."""
        digest = hashlib.sha256(self.version.encode())
        for file in self.files:
            digest.update(self.relative_path(file).encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def collect_inputs(job: Job | Pipeline) -> list[InputArtifact]:
    """Return the inputs of a job; one that the job names twice is returned once.

    Raises:
        JobError: A suite is a file, whose data would stay behind.
    """
    _check_suites_travel(job)
    artifacts: dict[str, InputArtifact] = {}
    taken: set[str] = set()
    for location in locations(job):
        key, value = location.key, location.value
        path = _local(value)
        if path is None and not value.startswith("s3://"):
            continue
        identity = str(path) if path else value
        if identity not in artifacts:
            channel = _channel(key, taken)
            taken.add(channel)
            artifacts[identity] = InputArtifact(".".join(key), channel, value, path)
    return list(artifacts.values())


def _check_suites_travel(job: Job | Pipeline) -> None:
    """Raise if a suite would reach another machine without the data of its tasks.

    Raises:
        JobError: A suite is a file; a folder is sent with all that it holds.
    """
    problems = [
        Problem(
            "evaluate.suite",
            "is a file, and the data of its tasks would not reach the machine of the job",
            suite,
            "Put the suite into a folder as suite.yaml, with its data, and name the folder",
        )
        for run in (job.stages if isinstance(job, Pipeline) else (job,))
        for suite in run.evaluate.suite
        if Path(suite).is_file()
    ]
    if problems:
        raise JobError(job.name, problems)


def rewrite_paths(
    job: Job | Pipeline,
    artifacts: list[InputArtifact],
    new_path: Callable[[InputArtifact], str],
) -> str:
    """Return the job as YAML, with the paths of its inputs on the machine that runs it.

    Args:
        job: The job as written here.
        artifacts: Its inputs, from `collect_inputs`.
        new_path: Returns the path of an input on the machine that runs the job.
    """
    by_source = {artifact.source: new_path(artifact) for artifact in artifacts}
    # The same file may be written as a relative and as an absolute path.
    by_path = {str(artifact.path): new_path(artifact) for artifact in artifacts if artifact.path}
    document = _document(job)
    for location in locations(job):
        path = _local(location.value)
        replacement = by_path.get(str(path)) if path else by_source.get(location.value)
        if replacement is not None:
            put(document, location.key, replacement)
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def hub_names(job: Job | Pipeline) -> list[str]:
    """Return the models and data sets that a job downloads from the model hub."""
    return [value for _, value in _sources(job) if ":" not in value and value not in _OURS]


@dataclass(frozen=True)
class RemoteEndpoint:
    """Endpoint of a judge or a teacher that a job calls while it runs.

    Attributes:
        key: Key of the job that names it, such as `method.judge`.
        kind: `openai` or `bedrock`.
        model: Name of the model at the endpoint.
        region: AWS Region of the endpoint; None unless it is Bedrock.
        key_variable: Environment variable with the API key; None if it needs none.
    """

    key: str
    kind: str
    model: str
    region: str | None = None
    key_variable: str | None = None


def collect_endpoints(job: Job | Pipeline) -> list[RemoteEndpoint]:
    """Return the endpoints that a job calls while it runs."""
    return [
        RemoteEndpoint(
            key,
            section["kind"],
            section["model"],
            section.get("region"),
            section.get("api_key_env"),
        )
        for key, section in _sections(_document(job), ())
        if section.get("kind") in _REMOTE_KINDS and key.rpartition(".")[2] in _ENDPOINT_KEYS
    ]


def _sections(value: Any, inside: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every section with its key; sections in a list have the key of the list."""
    if isinstance(value, list):
        for inner in value:
            yield from _sections(inner, inside)
    elif isinstance(value, dict):
        yield ".".join(inside), value
        for name, inner in value.items():
            yield from _sections(inner, (*inside, str(name)))


def missing_channels(job: Job | Pipeline) -> list[Problem]:
    """Return a problem for each channel that the job names itself, which no target can fill."""
    return [
        Problem(
            ".".join(key),
            "names a channel, whose content is unknown",
            value,
            "Write the file, the folder or the s3:// address; its channel is created for you",
        )
        for key, value in _sources(job)
        if value.startswith("channel:")
    ]


def _sources(job: Job | Pipeline) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the models, tokenizers and data of a job that are neither local files nor in S3."""
    for key, value, field in locations(job):
        if field.on_hub and not value.startswith("s3://") and _local(value) is None:
            yield key, value


def _document(job: Job | Pipeline) -> Any:
    return yaml.safe_load(resolved_yaml(job))


def _local(value: str) -> Path | None:
    """Return the absolute path that a location names on this machine, if it exists."""
    path = existing_path(value)
    return None if path is None else path.resolve()


def _channel(key: tuple[str, ...], taken: set[str]) -> str:
    """Return a short legal channel name for a key: `train`, `model`, `stage0-train`."""
    parts = [
        part for part in key if part not in ("data", "source", "stages") and not part.isdigit()
    ]
    stage = next((f"stage{key[1]}-" for _ in (0,) if key[0] == "stages"), "")
    base = _ILLEGAL.sub("-", stage + ("-".join(parts) or "data")).strip("-")[:48]
    name, number = base, 1
    while name in taken or name == "job":
        number += 1
        name = f"{base}-{number}"
    return name


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
