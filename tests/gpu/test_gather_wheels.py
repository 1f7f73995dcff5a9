"""Wheels are gathered by pip's settings, for another machine, and never twice."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import gather_wheels
from benchmarks.gpu.gather_wheels import LIST, Target, read_list


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> Path:
    """Write a wheel that pip accepts."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip's settings name, in place of an index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    make_wheel(folder, "plain", "1.0")
    make_wheel(folder, "kernels", "2.0", "cp312-cp312-manylinux_2_17_x86_64")
    make_wheel(folder, "kernels", "2.0", "cp311-cp311-manylinux_2_17_x86_64")
    make_wheel(folder, "arm", "3.0", "cp312-cp312-manylinux_2_28_aarch64")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def gather(tmp_path: Path, *options: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> int:
    (tmp_path / "list.txt").write_text(wanted)
    arguments = [
        "gather_wheels",
        "--to",
        str(tmp_path / "to"),
        "--list",
        str(tmp_path / "list.txt"),
    ]
    monkeypatch.setattr(sys, "argv", [*arguments, *options])
    return gather_wheels.main()


@pytest.mark.slow
def test_wheels_for_another_python_with_digests(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wanted = "# comment\nplain==1.0  # why\nkernels==2.0\narm==3.0\nabsent==1\n"
    assert gather(tmp_path, "--python", "3.12", wanted=wanted, monkeypatch=monkeypatch) == 1
    said = capsys.readouterr()
    assert "arm==3.0" in said.err and "absent==1" in said.err
    assert "2 wheels" in said.out
    digests = json.loads((tmp_path / "to/wheels.json").read_text())
    assert digests["kernels==2.0"]["file"].startswith("kernels-2.0-cp312-")
    for entry in digests.values():
        content = (tmp_path / "to" / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size"] == len(content)


@pytest.mark.slow
@pytest.mark.parametrize("extension", [False, True])
def test_package_that_is_published_as_source(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, extension: bool
) -> None:
    """A pure wheel is built and kept; one with compiled code would not fit the other machine."""
    setup = "from setuptools import Extension, setup\nsetup(name='sourced', version='1.0'{})\n"
    compiled = ", ext_modules=[Extension('sourced', ['sourced.c'])]" if extension else ""
    files = {"setup.py": setup.format(compiled), "sourced.c": _EXTENSION, "PKG-INFO": _PKG_INFO}
    with tarfile.open(shelf / "sourced-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
            archive.add(tmp_path / name, f"sourced-1.0/{name}")
    code = gather(tmp_path, wanted="sourced==1.0\n", monkeypatch=monkeypatch)
    said = capsys.readouterr()
    if extension:
        assert code == 1 and "sourced==1.0: " in said.err
        assert not list((tmp_path / "to").glob("*.whl"))
    else:
        assert code == 0 and (tmp_path / "to/sourced-1.0-py3-none-any.whl").exists()


_PKG_INFO = "Metadata-Version: 2.1\nName: sourced\nVersion: 1.0\n"
_EXTENSION = """#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "sourced", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_sourced(void) { return PyModule_Create(&module); }
"""


def test_second_time_downloads_what_is_missing_or_damaged(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wanted = "plain==1.0\nkernels==2.0\n"
    assert gather(tmp_path, wanted=wanted, monkeypatch=monkeypatch) == 0
    wheel = next((tmp_path / "to").glob("kernels-*.whl"))
    right = wheel.read_bytes()
    wheel.write_bytes(b"x" + right[1:])  # of the right size
    assert gather(tmp_path, "--verify", wanted=wanted, monkeypatch=monkeypatch) == 1
    assert "another SHA-256 digest" in capsys.readouterr().err
    (shelf / "plain-1.0-py3-none-any.whl").unlink()  # asked for again, pip would fail
    assert gather(tmp_path, wanted=wanted, monkeypatch=monkeypatch) == 0
    assert wheel.read_bytes() == right
    assert "plain-1.0-py3-none-any.whl is complete" in capsys.readouterr().out
    assert gather(tmp_path, "--verify", wanted=wanted, monkeypatch=monkeypatch) == 0


@pytest.mark.slow
def test_gathered_wheels_are_installed_without_an_index(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command of benchmarks/gpu/README.md, with nothing but the folder."""
    assert gather(tmp_path, wanted="plain==1.0\n", monkeypatch=monkeypatch) == 0
    monkeypatch.delenv("PIP_FIND_LINKS")
    folder, place = tmp_path / "to", tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(folder)]
    wheels = [str(path) for path in folder.glob("*.whl")]
    subprocess.run([*pip, "--target", str(place), *wheels], check=True, capture_output=True)
    assert (place / "plain-1.0.dist-info/METADATA").exists()


def test_list_has_exact_versions_and_those_that_the_project_pins(tmp_path: Path) -> None:
    pins = dict(read_pins(Path(gather_wheels.__file__).parents[2] / "constraints.txt"))
    listed = dict(line.split("==") for line in read_list(LIST))
    assert {"torch", "triton", "bitsandbytes", "deepspeed", "pytest"} <= listed.keys()
    assert sum(name.startswith("nvidia-") for name in listed) >= 14
    assert {n: v for n, v in listed.items() if v != pins.get(n)} == {}
    (tmp_path / "loose.txt").write_text("torch>=2\n")
    with pytest.raises(SystemExit, match="NAME==VERSION"):
        read_list(tmp_path / "loose.txt")


def read_pins(path: Path) -> list[tuple[str, str]]:
    lines = (line.partition(";")[0].strip() for line in path.read_text().splitlines())
    return [(name, version) for name, _, version in (line.partition("==") for line in lines)]


def test_every_platform_that_pip_matches_exactly_is_named() -> None:
    arguments = Target("3.12", "x86_64").arguments()
    for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1"):
        assert f"--platform={name}_x86_64" in arguments
