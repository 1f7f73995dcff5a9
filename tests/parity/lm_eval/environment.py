"""Variables of a process of the tests that imports lm-eval."""

from __future__ import annotations

import os
from pathlib import Path

from tests.installed_packages import ROOT, installed_packages

PACKAGE = "lm-eval==0.4.13"


def lm_eval_environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process that can import lm-eval; skips if it cannot be installed.

    Args:
        folder: Folder of the process, for its caches.
    """
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(installed_packages(PACKAGE)), str(ROOT)]),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
    }
