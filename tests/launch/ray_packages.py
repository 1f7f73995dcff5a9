"""Ray in a folder of its own: the project's environment lacks it."""

from __future__ import annotations

import os

from preparation.executors.ray_cluster import RAY
from tests.installed_packages import ROOT, installed_packages


def ray_path() -> str:
    """Return the `PYTHONPATH` with which a process finds Ray and the project; skips without."""
    return os.pathsep.join([str(installed_packages(RAY)), str(ROOT)])
