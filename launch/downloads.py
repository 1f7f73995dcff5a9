"""Placement of downloaded files: no name in a bucket or an archive leads out of its folder.

Names of objects and of archive members were chosen by others. Every download and every extraction
asks this module where a file may be written.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from launch.errors import LaunchError

OWN_FILES = ("job.yaml", "launch.json", "status.json", "failure.json", ".lock")
"""Files of which the run folder here has its own version; the remote one must not replace it."""


def path_within(folder: Path, name: str, source: str) -> Path:
    """Return the path below `folder` to which a downloaded file is written.

    Args:
        folder: Folder that must contain the file.
        name: Relative name of the file, as the bucket or the archive gives it.
        source: Address of the object, or of the archive, for the message.

    Raises:
        LaunchError: The name is absolute, contains `..`, or leads through a link out of the folder.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name or not relative.parts:
        raise LaunchError(_leads_out(folder, name, source))
    path = folder.joinpath(*relative.parts)
    # Only the parent is resolved: a link at the path itself is replaced and not followed.
    parent, root = os.path.realpath(path.parent), os.path.realpath(folder)
    if os.path.commonpath((parent, root)) != root:
        raise LaunchError(_leads_out(folder, name, source))
    return path


def extract_archive(archive: tarfile.TarFile, folder: Path, source: str) -> None:
    """Extract an archive into a new folder; also one that is read as a stream.

    Files are written before any link exists, so no file can be written through a link. Links
    follow, and each must lead to something inside the folder.

    Args:
        archive: Open archive.
        folder: Folder that does not exist yet; if the archive is refused, it is deleted.
        source: Name of the archive, for the message.

    Raises:
        LaunchError: A member would be written outside the folder, or is a device or a pipe.
    """
    folder.mkdir(parents=True)
    try:
        links = _extract_files(archive, folder, source)
        for member in links:
            _create_link(member, folder, source)
        root = os.path.realpath(folder)
        for member in links:
            path = path_within(folder, member.name, source)
            if os.path.commonpath((os.path.realpath(path), root)) != root:
                raise LaunchError(_leads_out(folder, f"{member.name} -> {member.linkname}", source))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _extract_files(archive: tarfile.TarFile, folder: Path, source: str) -> list[tarfile.TarInfo]:
    """Write files and folders, and return the links.

    Raises:
        LaunchError: A member has a name that leads out of the folder, or is a device or a pipe.
    """
    links = []
    for member in archive:
        if member.isdir() and not PurePosixPath(member.name).parts:
            continue  # "./", the folder itself
        path = path_within(folder, member.name, source)
        if member.issym() or member.islnk():
            links.append(member)
        elif member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.isfile():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None, "a regular file has content"
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
            path.chmod(0o755 if member.mode & 0o100 else 0o644)
            os.utime(path, (member.mtime, member.mtime))
        else:
            raise LaunchError(
                f"{source} contains {member.name!r}, which is a device or a pipe and no file. "
                "Nothing was unpacked: remove it from the archive"
            )
    return links


def _create_link(member: tarfile.TarInfo, folder: Path, source: str) -> None:
    path = path_within(folder, member.name, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        # A member of the archive has a name that leads through this link.
        raise LaunchError(_leads_out(folder, f"{member.name} -> {member.linkname}", source))
    path.unlink(missing_ok=True)
    if member.islnk():
        # tar stores a second name of a file as a link to the first, relative to the archive.
        original = path_within(folder, member.linkname, source)
        if original.is_symlink() or not original.is_file():
            raise LaunchError(_leads_out(folder, f"{member.name} -> {member.linkname}", source))
        os.link(original, path)
    elif PurePosixPath(member.linkname).is_absolute():
        raise LaunchError(_leads_out(folder, f"{member.name} -> {member.linkname}", source))
    else:
        path.symlink_to(member.linkname)


def _leads_out(folder: Path, name: str, source: str) -> str:
    return (
        f"{source} has the name {name!r}, which leads out of {folder}. Nothing was written "
        "there: delete or rename the object or member, and find out who created it"
    )
