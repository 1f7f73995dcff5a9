"""Copies of sources in S3 on this machine, one folder for each state of a source.

A preparation reads the copy, so that its rows are those of the plan even if an object is replaced
meanwhile. The copy of a state is complete when its folder has its name; objects that are the same
in an earlier state are linked to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from preparation.config.job import PreparationJob
from preparation.config.source import S3
from preparation.executors.nodes import this_node
from preparation.s3_objects import THREADS, S3Listing, S3Object, download, list_objects
from preparation.storage import is_s3
from training.errors import RunError

_FOLDER = ".sources"
_LISTING = ".listing.json"
_KEPT_S = 7 * 24 * 3600
"""Age after which the copy of an earlier state is removed."""
_MIB = 1 << 20
_SAMPLED_OBJECTS = 8
_SAMPLED_BYTES = 8 << 20
"""Size of the beginning of an object of lines; other formats can only be read as a whole."""
_OF_LINES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".text", ".md")


def copy_sources(job: PreparationJob, say: Callable[[str], None]) -> dict[str, Path]:
    """Copy the sources in S3 that are not copied yet, and return all copies by address.

    Args:
        job: The job.
        say: Prints a line.

    Raises:
        DataError: A source does not exist, cannot be read, or changed while it was read.
        RunError: S3 cannot be reached, or the copies cannot be written.
    """
    folder = copies_folder(job)
    copies = {}
    for source in job.prepare.sources:
        if source.source.startswith(S3) and source.source not in copies:
            listing = list_objects(source)
            try:
                copies[source.source] = _copy(listing, folder, say)
            except OSError as error:
                message = f"{folder}: the copy of {source.source} cannot be written"
                raise RunError(f"{message}: {error.strerror or error}") from None
    return copies


def copies_folder(job: PreparationJob) -> Path:
    """Return the folder of copies: `prepare.copies`, or one next to the results."""
    if job.prepare.copies is not None:
        return Path(job.prepare.copies)
    return Path("prepared" if is_s3(job.prepare.output) else job.prepare.output) / _FOLDER


def _copy(listing: S3Listing, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the copy of a source in its present state, after copying what is missing.

    Raises:
        OSError: It cannot be written.
    """
    states = folder / hashlib.sha256(listing.uri.rstrip("/").encode()).hexdigest()[:16]
    state = states / listing.version
    copy = state / listing.name
    if state.is_dir():
        os.utime(state)
        return copy
    building = states / f".building-{listing.version}"
    try:
        _build(listing, states, building, copy, say)
        building.rename(state)
    except OSError:
        if not state.is_dir():
            raise
        # Another node completed the copy while this one began the folder again.
        shutil.rmtree(building, ignore_errors=True)
    _remove_old_states(states, state)
    return copy


def _build(
    listing: S3Listing, states: Path, building: Path, copy: Path, say: Callable[[str], None]
) -> None:
    """Link or download what the copy lacks. Nodes may do so at the same time in one folder.

    Raises:
        OSError: It cannot be written, or another node completed the copy.
        RunError: The disk has no room for it.
    """
    building.mkdir(parents=True, exist_ok=True)
    _check_space(listing, building)
    _link_unchanged(listing, states, building)
    size = listing.bytes / _MIB
    say(f"copying {listing.uri} ({len(listing.objects):,} objects, {size:,.1f} MiB) to {copy}")
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=states) as incoming:
        _download_all(listing, building, Path(incoming))
        listed = Path(incoming) / _LISTING
        listed.write_text(json.dumps({one.name: [one.bytes, one.etag] for one in listing.objects}))
        listed.replace(building / _LISTING)


def _target(listing: S3Listing, state: Path, one: S3Object) -> Path:
    return state / listing.name if listing.is_object else state / listing.name / one.name


def _download_all(listing: S3Listing, building: Path, incoming: Path) -> None:
    """Download the objects that are missing; each node begins with others."""
    node = this_node()
    first = node.index * len(listing.objects) // node.count
    order = (*listing.objects[first:], *listing.objects[:first])
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            list(pool.map(partial(_download, listing, building, incoming), order))
        finally:
            pool.shutdown(cancel_futures=True)


def _download(listing: S3Listing, building: Path, incoming: Path, one: S3Object) -> None:
    target = _target(listing, building, one)
    if target.exists():
        return
    temporary = incoming / hashlib.sha256(one.name.encode()).hexdigest()
    with temporary.open("wb") as stream:
        download(listing.uri, one, stream)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)


def _link_unchanged(listing: S3Listing, states: Path, building: Path) -> None:
    """Link the objects that an earlier state has with the same ETag."""
    for path in states.glob(f"[!.]*/{_LISTING}"):
        earlier: Mapping[str, list[object]] = json.loads(path.read_text())
        for one in listing.objects:
            target = _target(listing, building, one)
            if earlier.get(one.name) == [one.bytes, one.etag] and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(_target(listing, path.parent, one), target)


def _check_space(listing: S3Listing, building: Path) -> None:
    """Check that the disk has room for a copy.

    Raises:
        RunError: It has not.
    """
    free = shutil.disk_usage(building).free
    present = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
    if listing.bytes - present > free:
        raise RunError(
            f"{listing.uri}: its copy needs {listing.bytes / _MIB:,.0f} MiB, and the disk of "
            f"{building.parent} has {free / _MIB:,.0f} MiB left. Set prepare.copies to a folder on "
            "a larger one"
        )


def _remove_old_states(states: Path, current: Path) -> None:
    """Remove copies of earlier states that no preparation has used for a week."""
    for other in states.iterdir():
        if other != current and time.time() - other.stat().st_mtime > _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)


def sample_sources(job: PreparationJob, folder: Path) -> dict[str, tuple[S3Listing, Path]]:
    """Copy the beginnings of some objects of each source in S3, for an estimate.

    Args:
        job: The job.
        folder: Folder in which they are written.

    Returns:
        Listing and copy of each source, by its address.

    Raises:
        DataError: A source does not exist or cannot be read.
        RunError: S3 cannot be reached.
    """
    samples = {}
    for number, source in enumerate(job.prepare.sources):
        if source.source.startswith(S3):
            listing = list_objects(source)
            state = folder / str(number)
            for one in _sampled(listing):
                _download_beginning(listing, state, one)
            samples[source.source] = (listing, state / listing.name)
    return samples


def _sampled(listing: S3Listing) -> list[S3Object]:
    """Return evenly spaced objects, of those that need not be read as a whole if there are any."""
    cheap = [o for o in listing.objects if o.name.endswith(_OF_LINES) or o.bytes <= _SAMPLED_BYTES]
    among = cheap or [min(listing.objects, key=lambda one: one.bytes)]
    return among[:: max(1, -(-len(among) // _SAMPLED_OBJECTS))]


def _download_beginning(listing: S3Listing, state: Path, one: S3Object) -> None:
    target = _target(listing, state, one)
    target.parent.mkdir(parents=True, exist_ok=True)
    of_lines = one.name.endswith(_OF_LINES)
    with target.open("wb") as stream:
        download(listing.uri, one, stream, _SAMPLED_BYTES if of_lines else None)
    if of_lines and one.bytes > _SAMPLED_BYTES:
        content = target.read_bytes()
        if end := content.rfind(b"\n") + 1:
            target.write_bytes(content[:end])
