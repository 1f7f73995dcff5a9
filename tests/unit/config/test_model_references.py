"""Models named by a run or by an archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.config.job import Job
from training.config.load import load_job
from training.errors import ModelError


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPER_CACHE", str(tmp_path / "cache"))


def _load(minimal: dict[str, Any], source: str) -> Job:
    path = Path("job.yaml")
    path.write_text(yaml.safe_dump({**minimal, "model": {"source": source}}))
    job = load_job(path)
    assert isinstance(job, Job)
    return job


def _run(run_id: str, *, trained: bool = True) -> None:
    folder = Path("runs/support") / run_id
    (folder / "model").mkdir(parents=True)
    if trained:
        (folder / "model/model.safetensors").touch()
    link = Path("runs/support/latest")
    link.unlink(missing_ok=True)
    link.symlink_to(run_id)


def test_the_model_of_a_run(minimal: dict[str, Any]) -> None:
    _run("20260101")
    _run("20260202")
    # The run itself, not the link: a later run does not change what this job starts from.
    assert _load(minimal, "run:support").model.source == "runs/support/20260202/model"
    assert _load(minimal, "run:support/20260101").model.source == "runs/support/20260101/model"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("run:suport", "no run of this name in runs/. Runs of these jobs are here: support"),
        ("run:support/1999", "no such run of support. Its runs are: 20260101"),
        ("run:support", "has no trained model on this machine.*temper fetch support/20260101"),
        ("run:", "no run of this name"),
    ],
)
def test_a_run_without_a_model(minimal: dict[str, Any], source: str, message: str) -> None:
    _run("20260101", trained=False)
    with pytest.raises(ModelError, match=message):
        _load(minimal, source)


def _archive(path: Path, names: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as packed:
        for name in names:
            packed.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def test_an_archive_is_unpacked_once(minimal: dict[str, Any]) -> None:
    path = _archive(Path("models/model.tar.gz"), ["config.json", "model.safetensors"])
    source = _load(minimal, str(path)).model.source
    assert sorted(p.name for p in Path(source).iterdir()) == ["config.json", "model.safetensors"]
    before = Path(source).stat().st_ctime_ns
    assert _load(minimal, str(path)).model.source == source
    assert Path(source).stat().st_ctime_ns == before
    assert len(list(Path("cache/models").iterdir())) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model/config.json"], "no config.json at its root"),
        (["config.json", "../escaped"], "cannot be unpacked"),
    ],
)
def test_archives_that_hold_no_model(
    minimal: dict[str, Any], names: list[str], message: str
) -> None:
    path = _archive(Path("model.tar.gz"), names)
    with pytest.raises(ModelError, match=message):
        _load(minimal, str(path))
    assert not list(Path("cache/models").iterdir())
    assert not Path("cache/escaped").exists()


def test_an_absolute_name_stays_in_the_folder(minimal: dict[str, Any], tmp_path: Path) -> None:
    """The filter of tarfile strips the leading slash."""
    outside = tmp_path / "outside/escaped"
    path = _archive(Path("model.tar.gz"), ["config.json", str(outside)])
    source = Path(_load(minimal, str(path)).model.source)
    assert (source / str(outside).lstrip("/")).exists()
    assert not outside.exists()


def test_a_damaged_archive(minimal: dict[str, Any]) -> None:
    path = _archive(Path("model.tar.gz"), ["config.json"])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match=r"model\.source: model\.tar\.gz: the archive cannot be"):
        _load(minimal, "model.tar.gz")
