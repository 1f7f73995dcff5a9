"""Gather the wheels that a GPU machine without a network needs, by pip's own settings.

`python -m benchmarks.gpu.gather_wheels --to FOLDER` downloads the wheels of
`benchmarks/gpu/wheels.txt` for another machine's Python and platform. Run it again after an
interruption: wheels whose size and SHA-256 digest match `FOLDER/wheels.json` are not downloaded
again. `--verify` only compares, for the machine that they were carried to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("wheels.txt")
DIGESTS = "wheels.json"
_MIB = 2**20
_GLIBC = range(28, 4, -1)
_OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")


@dataclass(frozen=True)
class Target:
    """Machine that the wheels are for.

    Attributes:
        python: Version of its Python, such as `3.12`.
        machine: Its processor, such as `x86_64`.
    """

    python: str
    machine: str

    def arguments(self) -> list[str]:
        """Return pip's arguments; pip matches a platform tag exactly, so each is named."""
        names = [f"manylinux_2_{minor}" for minor in _GLIBC] + list(_OLD_NAMES)
        platforms = [f"--platform={name}_{self.machine}" for name in names]
        python = [f"--python-version={self.python}", "--implementation=cp"]
        return ["--only-binary=:all:", *python, *platforms]


def main() -> int:
    """Download or verify, print sizes, and return an exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, required=True, help="folder of wheels")
    parser.add_argument("--list", type=Path, default=LIST, help="file of NAME==VERSION lines")
    parser.add_argument("--only", action="append", default=[], help="a name; may be repeated")
    parser.add_argument("--python", default="3.12", help="Python version of the GPU machine")
    parser.add_argument("--machine", default="x86_64", help="processor of the GPU machine")
    parser.add_argument("--verify", action="store_true", help="compare digests, download nothing")
    options = parser.parse_args()
    if options.verify:
        return _report(list(verify(options.to)), options.to)
    wanted = read_list(options.list)
    if unknown := set(map(_normal, options.only)) - {_normal(r.split("==")[0]) for r in wanted}:
        print(f"{options.list} does not name {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    if options.only:
        only = set(map(_normal, options.only))
        wanted = [r for r in wanted if _normal(r.split("==")[0]) in only]
    target = Target(options.python, options.machine)
    return _report(list(gather(wanted, options.to, target)), options.to)


def read_list(path: Path) -> list[str]:
    """Return the `NAME==VERSION` lines of a file, without comments.

    Raises:
        SystemExit: A line has no exact version.
    """
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    requirements = [line for line in lines if line]
    if loose := [line for line in requirements if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)]:
        raise SystemExit(f"{path}: each line is NAME==VERSION, and these are not: {loose}")
    return requirements


def gather(requirements: list[str], folder: Path, target: Target) -> Iterator[str]:
    """Download what the folder lacks, and yield a line for each wheel that could not be had.

    Args:
        requirements: `NAME==VERSION` each.
        folder: Folder of wheels and of their digests.
        target: Machine that the wheels are for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for requirement in requirements:
        digests = _digests(folder)
        known = digests.get(requirement)
        if known and not _fault(folder, known):
            print(f"{requirement}: {known['file']} is complete, {_size(known['size'])}", flush=True)
            continue
        before = {path.name for path in folder.glob("*.whl")}
        if known and (folder / known["file"]).exists():
            (folder / known["file"]).unlink()  # damaged; pip would take it for complete
            before.discard(known["file"])
        reason = _download(requirement, folder, target) and _build(requirement, folder)
        new = [path for path in folder.glob("*.whl") if path.name not in before]
        found = new or [path for path in folder.glob("*.whl") if _is_of(path, requirement)]
        if reason or not found:
            yield f"{requirement}: {reason or 'pip downloaded nothing'}"
            continue
        entry = {"file": found[0].name, "size": found[0].stat().st_size, "sha256": _hash(found[0])}
        _write(folder, {**digests, requirement: entry})
        print(f"{requirement}: {entry['file']}, {_size(entry['size'])}", flush=True)


def _download(requirement: str, folder: Path, target: Target) -> str | None:
    """Download a wheel and return the reason if pip has none for the target."""
    return _pip("download", *target.arguments(), "--dest", str(folder), requirement)


def _build(requirement: str, folder: Path) -> str | None:
    """Build the wheel of a package that is published as source, and return the reason if not.

    Only a wheel of pure Python is kept, because another one would fit this machine alone. DeepSpeed
    is one without its operators, which it compiles when they are first used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reason = _pip("wheel", "--no-build-isolation", "--wheel-dir", scratch, requirement)
        for wheel in Path(scratch).glob("*.whl"):
            if not wheel.name.endswith("-none-any.whl"):
                return (
                    f"there is no wheel for the target, and {wheel.name} is built for this machine"
                )
            shutil.move(wheel, folder / wheel.name)
    return reason


def _pip(command: str, *arguments: str) -> str | None:
    """Run pip without dependencies and return its last line if it failed."""
    options = ["--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments],
        env={**os.environ, "DS_BUILD_OPS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or [f"pip {command} failed"])[-1]


def verify(folder: Path) -> Iterator[str]:
    """Yield a line for each wheel of a folder that is missing or damaged."""
    digests = _digests(folder)
    if not digests:
        yield f"{folder / DIGESTS} does not exist or is empty: there is nothing to compare with"
    for requirement, entry in digests.items():
        if fault := _fault(folder, entry):
            yield f"{requirement}: {fault}"


def _report(faults: list[str], folder: Path) -> int:
    sizes = [entry["size"] for entry in _digests(folder).values()]
    print(f"{len(sizes)} wheels, {_size(sum(sizes))} in {folder}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _fault(folder: Path, entry: dict[str, Any]) -> str | None:
    path = folder / entry["file"]
    if not path.exists():
        return f"{entry['file']} is missing"
    if path.stat().st_size != entry["size"]:
        return f"{entry['file']} has {path.stat().st_size} bytes, not {entry['size']}"
    if _hash(path) != entry["sha256"]:
        return f"{entry['file']} has another SHA-256 digest than when it was downloaded"
    return None


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / DIGESTS
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _write(folder: Path, digests: dict[str, dict[str, Any]]) -> None:
    building = folder / f".writing-{DIGESTS}"
    building.write_text(json.dumps(digests, indent=1) + "\n")
    building.replace(folder / DIGESTS)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_of(path: Path, requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    parts = path.name.split("-")
    return _normal(parts[0]) == _normal(name) and parts[1] == version


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
