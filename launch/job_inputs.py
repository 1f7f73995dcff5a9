"""What of a job lies on this machine, or in S3, and must be where the job runs.

Every file, folder and address that the job names is found by walking the resolved job; each
becomes an item with a channel of its own, and the job that travels names the new places.
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
from training.config.model import PREVIOUS, SCRATCH
from training.errors import Problem
from training.run_folder import resolved_yaml

# Free text and patterns: never the name of a file.
_NOT_PLACES = frozenset(
    (
        *("name", "kind", "prompts", "samples", "terms", "columns", "patterns", "resources"),
        *("target_modules", "modules_to_save"),
    )
)
_OURS = frozenset((SCRATCH, PREVIOUS))
_ASKED = ("judge", "teacher")
_CALLED = ("openai", "bedrock")
_ILLEGAL = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class InputArtifact:
    """One thing that must travel.

    Attributes:
        key: Where the job names it: `data.train.0.source`.
        channel: A short name of its own.
        source: Path or S3 address as the job writes it.
        path: Where it lies on this machine; None for an address.
    """

    key: str
    channel: str
    source: str
    path: Path | None

    @property
    def base_name(self) -> str:
        """What stands below the channel: the file or folder; empty for a prefix in S3."""
        if self.path is not None:
            return self.path.name
        last = self.source.rpartition("/")[2]
        return last if "." in last else ""

    @property
    def s3_uri(self) -> str:
        """The address in S3, of one object or of all below a folder, and of nothing beside it."""
        return self.source if self.base_name or self.source.endswith("/") else f"{self.source}/"

    @property
    def files(self) -> list[Path]:
        """The files to copy, in order; none for an address."""
        if self.path is None:
            return []
        if self.path.is_file():
            return [self.path]
        found = sorted(p for p in self.path.rglob("*") if p.is_file() and not _hidden(p, self.path))
        if not found:
            raise LaunchError(f"{self.key}: the folder {self.path} is empty")
        return found

    def relative_path(self, file: Path) -> str:
        """Return where a file stands below the channel, the item's own name first."""
        assert self.path is not None
        if file == self.path:
            return file.name
        return f"{self.path.name}/{file.relative_to(self.path).as_posix()}"

    @property
    def size_bytes(self) -> int:
        """What is to be copied."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def summary(self) -> str:
        """What happens with it, for people."""
        if self.path is None:
            return f"reads {self.source} ({self.key})"
        return f"copies {self.path} ({self.size_bytes / 2**20:.1f} MiB; {self.key})"

    @cached_property
    def digest(self) -> str:
        """A digest of names and content: the same item is never copied twice."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(self.relative_path(file).encode() + b"\0")
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()


def collect_inputs(job: Job | Pipeline) -> list[InputArtifact]:
    """Return everything the job names that must travel; what is named twice travels once."""
    items: dict[str, InputArtifact] = {}
    taken: set[str] = set()
    for key, value in _strings(_document(job), ()):
        path = _local(key, value)
        if path is None and not value.startswith("s3://"):
            continue
        same = str(path) if path else value
        if same not in items:
            channel = _channel(key, taken)
            taken.add(channel)
            items[same] = InputArtifact(".".join(key), channel, value, path)
    return list(items.values())


def rewrite_paths(
    job: Job | Pipeline, items: list[InputArtifact], place: Callable[[InputArtifact], str]
) -> str:
    """Return the job as YAML, with each item named by its new place.

    Args:
        job: As written here.
        items: From `pack`.
        place: Where an item is, on the machine that runs the job.
    """
    places = {item.source: place(item) for item in items}
    known = {str(item.path): place(item) for item in items if item.path}
    document = _document(job)
    for key, value in list(_strings(document, ())):
        path = _local(key, value)
        new = known.get(str(path)) if path else places.get(value)
        if new is not None:
            _put(document, key, new)
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def hub_names(job: Job | Pipeline) -> list[str]:
    """Return what a job would fetch from the model hub."""
    return [value for _, value in _sources(job) if ":" not in value and value not in _OURS]


@dataclass(frozen=True)
class RemoteEndpoint:
    """An endpoint that a job calls while it runs: a judge, or a teacher.

    Attributes:
        key: Where the job names it: `method.judge`.
        kind: `openai` or `bedrock`.
        model: As it is called there.
        region: That is called, on Bedrock.
        key_variable: Environment variable that holds its key; None where it wants none.
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
        if section.get("kind") in _CALLED and key.rpartition(".")[2] in _ASKED
    ]


def _sections(value: Any, inside: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every section, and where it stands; those of a list stand where the list does."""
    if isinstance(value, list):
        for inner in value:
            yield from _sections(inner, inside)
    elif isinstance(value, dict):
        yield ".".join(inside), value
        for name, inner in value.items():
            yield from _sections(inner, (*inside, str(name)))


def missing_channels(job: Job | Pipeline) -> list[Problem]:
    """Return what a job reads from channels that only a training container has."""
    return [
        Problem(
            ".".join(key),
            "names a channel, and nothing says what is in it",
            value,
            "Give the file, the folder or the s3:// address; it becomes a channel by itself",
        )
        for key, value in _sources(job)
        if value.startswith("channel:")
    ]


def _sources(job: Job | Pipeline) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the models, tokenizers and data of a job that are neither files here nor in S3."""
    for key, value in _strings(_document(job), ()):
        names_source = key[-1] in ("source", "tokenizer", "teacher")
        if names_source and not value.startswith("s3://") and _local(key, value) is None:
            yield key, value


def _document(job: Job | Pipeline) -> Any:
    return yaml.safe_load(resolved_yaml(job))


def _strings(value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NOT_PLACES:
                yield from _strings(inner, (*key, str(name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, (*key, str(index)))


def _put(document: Any, key: tuple[str, ...], value: str) -> None:
    here = document
    for part in key[:-1]:
        here = here[int(part)] if isinstance(here, list) else here[part]
    if isinstance(here, list):
        here[int(key[-1])] = value
    else:
        here[key[-1]] = value


def _local(key: tuple[str, ...], value: str) -> Path | None:
    """Return the path a value names on this machine, or None where it names none."""
    named = key[-1] in ("source", "tokenizer", "chat_template") or "/" in value
    if not named or not value or len(value) > 1024 or "\n" in value:
        return None
    path = Path(value).expanduser()
    return path.resolve() if path.exists() else None


def _channel(key: tuple[str, ...], taken: set[str]) -> str:
    """Return a short legal name for what a key names: `train`, `model`, `instruct-train`."""
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
