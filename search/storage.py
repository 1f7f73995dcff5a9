"""Folder of a search: named by its content, so that the same command resumes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from search.job_file import SearchJob

_NOT_IDENTITY = {"trials", "max_time", "seeds"}
"""Settings that may be changed between two starts of a search: its trials stay the same."""


def search_folder(search: SearchJob, home: Path) -> Path:
    """Return the folder of a search below `home`.

    Args:
        search: The search.
        home: Folder of all searches.
    """
    settings = search.settings.model_dump(mode="json", exclude=_NOT_IDENTITY)
    content = json.dumps([search.job.model_dump(mode="json"), settings], sort_keys=True)
    return home / search.job.name / hashlib.sha256(content.encode()).hexdigest()[:12]
