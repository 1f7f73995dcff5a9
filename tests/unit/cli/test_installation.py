"""An installed wheel, away from the checkout: the command works and trains a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tests.factories import docstring_pairs, make_tiny_model, write_jsonl
from tests.run_commands import ROOT
from training import __version__

pytestmark = pytest.mark.slow

_SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def _call(*command: str | Path, cwd: Path) -> str:
    environment = {**os.environ, "COLUMNS": "160"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it in a new environment, and return that environment's bin/.

    Third-party packages come from this environment through a .pth file: nothing is downloaded.
    """
    home = tmp_path_factory.mktemp("installed")
    source = home / "source"  # a copy, because a build writes build/ and *.egg-info there
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if name.startswith(("docs/", "tests/")) or not (ROOT / name).is_file():
            continue
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    assert all((source / name).is_file() for name in _SOURCES)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index")
    _call(*pip, *build, "--wheel-dir", home, source, cwd=home)
    (wheel,) = home.glob("temper-*.whl")
    assert wheel.name.startswith(f"temper-{__version__}-")

    _call(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv/bin/python"
    _call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    own = _call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home)
    (Path(own.strip()) / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "venv/bin"


def test_the_command_is_installed(bin_folder: Path, tmp_path: Path) -> None:
    assert _call(bin_folder / "temper", "--version", cwd=tmp_path) == f"temper {__version__}\n"
    assert "train" in _call(bin_folder / "temper", "--help", cwd=tmp_path)
    assert "No runs yet" in _call(bin_folder / "temper", "status", cwd=tmp_path)
    where = _call(
        bin_folder / "python", "-c", "import training; print(training.__file__)", cwd=tmp_path
    )
    assert str(ROOT) not in where


def test_every_file_that_code_reads_is_in_the_wheel(bin_folder: Path, tmp_path: Path) -> None:
    code = "import temper, pathlib; print(pathlib.Path(temper.__file__).parents[1])"
    installed = Path(_call(bin_folder / "python", "-c", code, cwd=tmp_path).strip())
    for suffix in ("jinja", "html", "css", "yaml"):
        for package in (
            "training",
            "planning",
            "launch",
            "catalog",
            "feedback",
            "safety",
            "evaluation",
        ):
            for path in (ROOT / package).rglob(f"*.{suffix}"):
                assert (installed / path.relative_to(ROOT)).is_file(), path


def test_it_trains_a_model(bin_folder: Path, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "base")
    rows = write_jsonl(tmp_path / "rows.jsonl", docstring_pairs(24))
    job = {
        "name": "first",
        "model": {"source": str(model)},
        "data": {"train": str(rows), "max_length": 64},
        "method": {"kind": "sft"},
        "train": {"max_steps": 3, "global_batch_size": 4},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    temper = bin_folder / "temper"
    assert "fine" in _call(temper, "check", "job.yaml", cwd=tmp_path)
    _call(temper, "plan", "job.yaml", "--out", "plan.json", cwd=tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text())["fits"]
    said = _call(
        temper,
        "train",
        "job.yaml",
        "--set",
        "train.learning_rate=1e-3",
        "train.max_steps=2",
        cwd=tmp_path,
    )
    assert "done: runs/first/" in said
    run = tmp_path / "runs/first/latest"
    assert list((run / "model").glob("*.safetensors"))
    assert (run / "model/README.md").is_file() and (run / "report.html").is_file()
    assert "first/" in _call(temper, "status", cwd=tmp_path)
