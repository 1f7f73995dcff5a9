"""Lookup of a model or a data set on the Hub in two seconds, before anything heavy is loaded.

Only the standard library is used: `huggingface_hub` takes a noticeable time to import, and retries
for a minute. One small file is asked for, as a download would, so that gated repositories are
found too. The header `X-Error-Code` distinguishes the reasons.
https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_http.py
"""

from __future__ import annotations

import errno
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TIMEOUT_S = 2.0
_ON = ("1", "true", "yes", "on")
_FILES = {"model": "config.json", "data": "README.md"}
_PREFIXES = {"model": "", "data": "datasets/"}
_CACHES = {"model": "models--", "data": "datasets--"}


@dataclass(frozen=True)
class HubAnswer:
    """Answer about one name.

    Attributes:
        problem: Why a download will fail, and the fix; empty if it can succeed.
        unknown: Why the Hub could not be asked; empty if it answered.
        unreachable: No program on this machine reaches the Hub: it is switched off, its name does
            not resolve, or the connection is refused.
    """

    problem: str = ""
    unknown: str = ""
    unreachable: bool = False


def ask_hub(name: str, kind: Literal["model", "data"], revision: str | None = None) -> HubAnswer:
    """Return whether a model or a data set can be downloaded; one in the cache is not asked about.

    Args:
        name: Hub id.
        kind: What it names.
        revision: Branch, tag or commit; `main` if None.
    """
    if _is_cached(name, kind):
        return HubAnswer()
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON:
        return HubAnswer(unknown="HF_HUB_OFFLINE is set", unreachable=True)
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{host}/{_PREFIXES[kind]}{name}/resolve/{revision or 'main'}/{_FILES[kind]}"
    request = urllib.request.Request(url, method="HEAD")
    if token := os.environ.get("HF_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        return _refusal(error, name, revision, kind)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        gone = isinstance(reason, socket.gaierror) or (
            isinstance(reason, OSError) and reason.errno == errno.ECONNREFUSED
        )
        return HubAnswer(unknown=f"the Hub could not be reached ({reason})", unreachable=gone)
    return HubAnswer()


def _refusal(
    error: urllib.error.HTTPError, name: str, revision: str | None, kind: str
) -> HubAnswer:
    code = error.headers.get("X-Error-Code", "") if error.headers else ""
    error.close()
    if code == "EntryNotFound":
        return HubAnswer()  # the repository exists, without this file
    if code == "GatedRepo":
        return HubAnswer(
            f"is gated: accept its terms on https://huggingface.co/{_PREFIXES[kind]}{name}, and "
            "set HF_TOKEN to a token of that account"
        )
    if code == "RevisionNotFound":
        return HubAnswer(f"has no revision {revision or 'main'} on the Hub. Correct the revision")
    if error.code in (401, 403, 404):
        return HubAnswer(
            "no such folder, and no such name on the Hub. Correct the name; if it is private, set "
            "HF_TOKEN"
        )
    return HubAnswer(unknown=f"the Hub answered with HTTP {error.code}")


def _is_cached(name: str, kind: str) -> bool:
    """Return whether a cache has a snapshot of a repository, or a prepared data set."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folders = [hub / f"{_CACHES[kind]}{name.replace('/', '--')}" / "snapshots"]
    if kind == "data":
        prepared = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
        folders.append(prepared / name.replace("/", "___"))
    return any(any(folder.iterdir()) for folder in folders if folder.is_dir())
