"""Atomic checkpoints with checksums.

A checkpoint is built in a staging folder, checksummed, flushed to disk and renamed into place. A
power cut at any moment leaves either the previous state or the new one, because a rename within a
file system is atomic. The latest valid checkpoint is the newest one whose files all still have the
checksums they were written with.

Nodes without a shared disk each keep the part that their own processes wrote, with its own
checksums, and a checkpoint is valid if every node finds its part intact. If all parts have been
merged into one folder since (SageMaker restores all of them to every node), it is read as one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.errors import CheckpointError
from training.nodes import ALONE, NodeSet
from training.trainer.distributed import ControlPlane

logger = logging.getLogger(__name__)

CHECKSUMS = "CHECKSUMS.json"
PREFIX = "checkpoint-"
_STAGING = ".writing-"
_TRASH = ".deleting-"


class CheckpointManager:
    """Checkpoints of a run.

    Args:
        folder: Folder of the checkpoints.
        keep: Number of newest checkpoints to keep.
        control: Synchronizes the processes, which write one checkpoint together.
    """

    def __init__(self, folder: Path, keep: int, control: ControlPlane):
        self.folder = folder
        self.keep = keep
        self.control = control

    @contextmanager
    def save(self, step: int, facts: dict[str, Any]) -> Iterator[Path]:
        """Provide a staging folder for the checkpoint of `step`, and commit it on exit.

        Args:
            step: Optimizer steps done.
            facts: Metadata stored with the checksums, such as the number of processes.

        Raises:
            CheckpointError: It could not be written; earlier checkpoints are unchanged.
        """
        staging = self.folder / f"{_STAGING}{step}"
        writer = self.control.world.is_local_writer
        if writer:
            self._remove_leftovers()
            self._check_space()
            self._create(staging)
        self.control.barrier()
        try:
            yield staging
            # Sum the files only after every process has written its own.
            self.control.barrier()
            if writer:
                self._commit(staging / f"{PREFIX}{step}", facts)
        except CheckpointError:
            raise
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise CheckpointError(self._failure_message(step, error)) from error
        self.control.barrier()
        if writer:
            shutil.rmtree(staging, ignore_errors=True)
            self._rotate()

    def latest_valid(self) -> Path | None:
        """Return the newest checkpoint that is complete and unaltered on every node, or None.

        All processes must agree on it, so the candidates are those that rank 0 lists, and one
        node's failed check rejects a checkpoint for all. Rejected checkpoints are logged.
        """
        writer = self.control.world.is_local_writer
        names_here = [path.name for path in self.list_checkpoints()] if writer else None
        everyone = [names for names in self.control.all_gather(names_here) if names is not None]
        for name in everyone[0]:
            path = self.folder / name
            fault = find_corruption(path, self.control.world.nodes) if writer else None
            faults = [reason for reason in self.control.all_gather(fault) if reason]
            if not faults:
                logger.info("resuming from %s", name)
                return path
            if writer:
                logger.warning("%s is not used: %s", name, faults[0])
        if any(everyone) and writer:
            logger.warning("no checkpoint is valid: the run starts from scratch")
        return None

    def list_checkpoints(self) -> list[Path]:
        """Return the existing checkpoints, newest first."""
        paths = [p for p in self.folder.glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdigit()]
        return sorted(paths, key=step_of, reverse=True)

    def _create(self, staging: Path) -> None:
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be written to {self.folder}: {error.strerror}. "
                f"Make the folder writable, or start the job on a machine where it is"
            ) from error

    def _commit(self, built: Path, facts: dict[str, Any]) -> None:
        nodes = self.control.world.nodes
        facts = {**facts, "parts": nodes.count if nodes.own_storage else 1}
        sums = {str(p.relative_to(built)): _checksum(p) for p in _files(built)}
        text = json.dumps({"facts": facts, "sums": sums}, indent=1, sort_keys=True)
        (built / checksum_file(nodes)).write_text(text)
        # Data before directories, and both before the rename: a crash in between must not leave a
        # committed checkpoint whose blocks were never written.
        for path in (*_files(built), *(p for p in built.rglob("*") if p.is_dir()), built):
            _flush(path)
        final = self.folder / built.name
        if final.exists():
            shutil.rmtree(final)
        built.rename(final)
        _flush(self.folder)

    def _check_space(self) -> None:
        """Raise if a checkpoint of the latest one's size does not fit the disk.

        Raises:
            CheckpointError: There is too little free space.
        """
        for path in self.list_checkpoints()[:1]:
            needed = sum(p.stat().st_size for p in _files(path))
            free = shutil.disk_usage(self.folder).free
            if free < needed:
                raise CheckpointError(
                    f"no space for a checkpoint: {needed / 2**20:.1f} MiB needed, "
                    f"{free / 2**20:.1f} MiB free in {self.folder}. {path.name} is intact; free "
                    f"space or lower checkpoint.keep, then run the same command again to resume"
                )

    def _failure_message(self, step: int, error: Exception) -> str:
        intact = self.list_checkpoints()
        rest = f"{intact[0].name} is intact" if intact else "there is no earlier checkpoint"
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or shutil.disk_usage(self.folder).free < 2**20 or "o space" in str(error)
        cause = f"the disk of {self.folder} is full" if full else str(error) or repr(error)
        fix = "Run the same command again to resume"
        fix = f"Free space. {fix}" if full else fix
        return f"the checkpoint of step {step} could not be written: {cause}. {rest}. {fix}"

    def _remove_leftovers(self) -> None:
        for pattern in (f"{_STAGING}*", f"{_TRASH}*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def _rotate(self) -> None:
        for path in self.list_checkpoints()[self.keep :]:
            # Renamed first: a partly deleted folder must not look like a checkpoint.
            doomed = self.folder / f"{_TRASH}{path.name}"
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def step_of(path: Path) -> int:
    """Return the optimizer step after which a checkpoint was written."""
    return int(path.name[len(PREFIX) :])


def checksum_file(nodes: NodeSet) -> str:
    """Return the name of the file with the checksums of the files that this node wrote."""
    if not nodes.own_storage or nodes.is_first:
        return CHECKSUMS
    return f"CHECKSUMS.node-{nodes.rank}.json"


def read_metadata(path: Path, nodes: NodeSet = ALONE) -> dict[str, Any]:
    """Return the metadata of a checkpoint."""
    facts: dict[str, Any] = json.loads((path / checksum_file(nodes)).read_text())["facts"]
    return facts


def find_corruption(path: Path, nodes: NodeSet = ALONE) -> str | None:
    """Return the first defect of a checkpoint, or None if every file is as it was written.

    Args:
        path: The checkpoint.
        nodes: Nodes of the run that would resume from it. If nodes share no disk and their number
            is unchanged, a node needs only its own part; otherwise all parts must be present.
    """
    own = checksum_file(nodes)
    try:
        document = json.loads((path / own).read_text())
        sums: dict[str, str] = document["sums"]
        parts = int(document["facts"].get("parts", 1))
    except FileNotFoundError:
        return f"{own} is missing: it was never finished"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{own} cannot be read: {error}"
    if parts > 1 and not (nodes.own_storage and nodes.count == parts):
        for rank in range(parts):
            part = checksum_file(NodeSet(count=parts, rank=rank, own_storage=True))
            try:
                sums |= json.loads((path / part).read_text())["sums"]
            except (OSError, ValueError, KeyError, TypeError):
                return f"{part} is missing: it is the part of one of {parts} nodes"
    missing = [name for name in sums if not (path / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    with ThreadPoolExecutor() as pool:
        checksums = pool.map(_checksum, (path / name for name in sums))
        for (name, expected), actual in zip(sums.items(), checksums, strict=True):
            if actual != expected:
                return f"{name} was altered or truncated: its checksum differs"
    return None


def tensor_files(folder: Path) -> dict[str, Path]:
    """Return the safetensors file that holds each tensor of a folder, by tensor name."""
    from safetensors import safe_open

    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            files |= dict.fromkeys(file.keys(), path)
    return files


def name_on_disk(name: str) -> str:
    """Return the name under which PEFT saves the adapter parameter `name`."""
    name = re.sub(r"\.(modules_to_save\.default|original_module|default)(?=\.|$)", "", name)
    return name.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
