"""Source code that an image is built from: the files of the current git commit."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launch.errors import InvalidOptionError, LaunchError
from training import __version__

_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_COMMIT_DIGITS = 12
_LISTED = 8


@dataclass(frozen=True)
class ImageSource:
    """Commit of a checkout, and the version that its image carries.

    Attributes:
        root: Folder of the checkout.
        version: Version, the first part of the image's tag.
        commit: Full hash of the commit.
        changed: Tracked files that differ from the commit.
        untracked: Files that git neither tracks nor ignores.
    """

    root: Path
    version: str
    commit: str
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """Tag of the image: version and commit."""
        return f"{self.version}-{self.commit[:_COMMIT_DIGITS]}"

    def require_clean(self) -> None:
        """Raise if the commit, after which the image is named, is not what would be built.

        Raises:
            LaunchError: Tracked files have uncommitted changes.
        """
        if self.changed:
            raise LaunchError(
                f"uncommitted changes: {_listed(self.changed)}. An image is named after its "
                "commit: commit the changes, or set them aside with `git stash`"
            )

    def write_archive(self, to: Path) -> None:
        """Write a zip file with the files of the commit."""
        _git(self.root, "archive", "--format=zip", "-o", str(to.absolute()), self.commit)


def read_source(root: Path, version: str = "") -> ImageSource:
    """Return the source of a checkout.

    Args:
        root: Folder of the checkout.
        version: Version of the image; that of the project if empty.

    Raises:
        InvalidOptionError: The version cannot be part of a tag.
        LaunchError: The folder is not a git checkout.
    """
    version = version or __version__
    if not _VERSION.fullmatch(version):
        raise InvalidOptionError(
            f"--version {version}: write letters, digits, '_', '.' and '-', as in a tag: 1.2.3"
        )
    commit = _git(root, "rev-parse", "HEAD").strip()
    entries = _git(root, "status", "--porcelain", "--untracked-files=normal").splitlines()
    return ImageSource(
        root,
        version,
        commit,
        tuple(entry[3:] for entry in entries if not entry.startswith("??")),
        tuple(entry[3:] for entry in entries if entry.startswith("??")),
    )


def _listed(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return ", ".join(files[:_LISTED]) + more


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise LaunchError("git is not installed; images are built from a git commit") from None
    if done.returncode:
        raise LaunchError(
            f"git {arguments[0]} failed in {root.absolute()}: {done.stderr.strip()}. Images are "
            "built from a git checkout of the project"
        )
    return done.stdout
