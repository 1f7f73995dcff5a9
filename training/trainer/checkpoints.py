"""Checkpoints that are written whole or not at all, and trusted only when unaltered.

A checkpoint is built in a folder beside its final place, summed, flushed to the disk and renamed;
a power cut leaves either the old state or the new one. Reading starts from the newest and takes
the first whose every file still has the checksum it was written with.

Where nodes have no disk in common, each keeps the part its own processes wrote, with sums of its
own, and a checkpoint counts when every node finds its part whole. Parts that were brought together
since (SageMaker restores all of them to every node) are read like one.
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
    """The checkpoints of one run.

    Args:
        folder: Where they are.
        keep: How many of the newest are kept.
        control: Lets the processes of the run write one checkpoint together.
    """

    def __init__(self, folder: Path, keep: int, control: ControlPlane):
        self.folder = folder
        self.keep = keep
        self.control = control

    @contextmanager
    def writing(self, step: int, facts: dict[str, Any]) -> Iterator[Path]:
        """Give a folder to build the checkpoint of `step` in; make it count on leaving.

        Args:
            step: Optimizer steps done.
            facts: Small values kept beside the sums, such as the number of processes.

        Raises:
            CheckpointError: It could not be written; earlier checkpoints are as they were.
        """
        staging = self.folder / f"{_STAGING}{step}"
        keeper = self.control.world.is_local_writer
        if keeper:
            self._clear_leftovers()
            self._check_space()
            self._make(staging)
        self.control.barrier()
        try:
            yield staging
            self.control.barrier()
            if keeper:
                self._commit(staging / f"{PREFIX}{step}", facts)
        except CheckpointError:
            raise
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise CheckpointError(self._explain(step, error)) from error
        self.control.barrier()
        if keeper:
            shutil.rmtree(staging, ignore_errors=True)
            self._forget_old()

    def latest_valid(self) -> Path | None:
        """Return the newest checkpoint that is whole and unaltered on every node, or None.

        What is passed over is named in the log.
        """
        keeper = self.control.world.is_local_writer
        mine = [path.name for path in self.listed()] if keeper else None
        everyone = [names for names in self.control.all_gather(mine) if names is not None]
        for name in everyone[0]:
            path = self.folder / name
            fault = find_corruption(path, self.control.world.nodes) if keeper else None
            faults = [found for found in self.control.all_gather(fault) if found]
            if not faults:
                logger.info("going on from %s", name)
                return path
            if keeper:
                logger.warning("%s is not used: %s", name, faults[0])
        if any(everyone) and keeper:
            logger.warning("no checkpoint is whole: the run starts anew")
        return None

    def listed(self) -> list[Path]:
        """Return the checkpoints there are, newest first."""
        found = [p for p in self.folder.glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdigit()]
        return sorted(found, key=step_of, reverse=True)

    def _make(self, staging: Path) -> None:
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be written to {self.folder}: {error.strerror}. "
                f"Make the folder writable, or start the job where it is"
            ) from error

    def _commit(self, built: Path, facts: dict[str, Any]) -> None:
        nodes = self.control.world.nodes
        facts = {**facts, "parts": nodes.count if nodes.own_storage else 1}
        sums = {str(p.relative_to(built)): _sum(p) for p in _files(built)}
        text = json.dumps({"facts": facts, "sums": sums}, indent=1, sort_keys=True)
        (built / sums_name(nodes)).write_text(text)
        for path in (*_files(built), *(p for p in built.rglob("*") if p.is_dir()), built):
            _flush(path)
        final = self.folder / built.name
        if final.exists():
            shutil.rmtree(final)
        built.rename(final)
        _flush(self.folder)

    def _check_space(self) -> None:
        """Refuse early when the last checkpoint would not fit a second time."""
        for path in self.listed()[:1]:
            needed = sum(p.stat().st_size for p in _files(path))
            free = shutil.disk_usage(self.folder).free
            if free < needed:
                raise CheckpointError(
                    f"no space for a checkpoint: {needed / 2**20:.1f} MiB needed, "
                    f"{free / 2**20:.1f} MiB free in {self.folder}. {path.name} is intact; free "
                    f"space or lower checkpoint.keep, and the same command goes on from it"
                )

    def _explain(self, step: int, error: Exception) -> str:
        intact = self.listed()
        rest = f"{intact[0].name} is intact" if intact else "there is no earlier checkpoint"
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        full = full or shutil.disk_usage(self.folder).free < 2**20 or "o space" in str(error)
        cause = f"the disk of {self.folder} is full" if full else str(error) or repr(error)
        fix = "Free space, and the same command goes on" if full else "The same command goes on"
        return f"the checkpoint of step {step} could not be written: {cause}. {rest}. {fix}"

    def _clear_leftovers(self) -> None:
        for pattern in (f"{_STAGING}*", f"{_TRASH}*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def _forget_old(self) -> None:
        for path in self.listed()[self.keep :]:
            # Renamed first: half a deletion must not look like a checkpoint.
            doomed = self.folder / f"{_TRASH}{path.name}"
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def step_of(path: Path) -> int:
    """Return the optimizer step a checkpoint was taken after."""
    return int(path.name[len(PREFIX) :])


def sums_name(nodes: NodeSet) -> str:
    """Return the name of the file with the sums of what this node wrote."""
    if not nodes.own_storage or nodes.is_first:
        return CHECKSUMS
    return f"CHECKSUMS.node-{nodes.rank}.json"


def read_metadata(path: Path, nodes: NodeSet = ALONE) -> dict[str, Any]:
    """Return the facts a checkpoint was written with."""
    facts: dict[str, Any] = json.loads((path / sums_name(nodes)).read_text())["facts"]
    return facts


def find_corruption(path: Path, nodes: NodeSet = ALONE) -> str | None:
    """Return what is wrong with a checkpoint, or None when every file is as it was written.

    Args:
        path: The checkpoint.
        nodes: Those that would go on with it. Where each kept a part, and as many go on, a node
            needs its own part only; otherwise all parts must be here.
    """
    own = sums_name(nodes)
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
            part = sums_name(NodeSet(count=parts, rank=rank, own_storage=True))
            try:
                sums |= json.loads((path / part).read_text())["sums"]
            except (OSError, ValueError, KeyError, TypeError):
                return f"{part} is missing: it is the part of one of {parts} nodes"
    missing = [name for name in sums if not (path / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    with ThreadPoolExecutor() as pool:
        found = pool.map(_sum, (path / name for name in sums))
        for (name, expected), actual in zip(sums.items(), found, strict=True):
            if actual != expected:
                return f"{name} was altered or torn: its checksum differs"
    return None


def tensor_files(folder: Path) -> dict[str, Path]:
    """Return the safetensors file of a checkpoint that holds each tensor, by tensor name."""
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def name_on_disk(name: str) -> str:
    """Return PEFT's name in a file for an adapter parameter's name in memory."""
    name = re.sub(r"\.(modules_to_save\.default|original_module|default)(?=\.|$)", "", name)
    return name.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
