"""Watched run, and a watch over its shifted log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.monitoring.watched_run import Watched, make_watched, watch


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return make_watched(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="session")
def found(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Folder and exit code of a watch over the log that is shifted."""
    out = tmp_path_factory.mktemp("shifted")
    code, _ = watch(watched.shifted, out, "--model", str(watched.run), "--usd-per-hour", "2")
    return out, code
