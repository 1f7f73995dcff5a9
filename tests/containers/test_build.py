"""Image builds: `make image` and the platform's CodeBuild project build the same."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import ROOT

DIGEST = "sha256:" + "ab" * 32
DOCKER = """#!/bin/sh
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >>"$CALLS"
case "$1" in image) echo "base@{digest}";; esac
"""
VARIABLES = {"KIND": "gpu", "VERSION": "1.2.3", "COMMIT": "0123456789abcdef0123"}


@pytest.fixture
def engine(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose docker and aws only record their arguments."""
    for name in ("docker", "aws"):
        path = tmp_path / name
        path.write_text(DOCKER.format(digest=DIGEST))
        path.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SSL_", "MAKE"))}
    return {**kept, "PATH": f"{tmp_path}:{kept['PATH']}", "CALLS": str(tmp_path / "calls")}


def calls(environment: dict[str, str]) -> list[list[str]]:
    path = Path(environment["CALLS"])
    found = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return found


def sh(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def build_of(found: list[list[str]]) -> list[str]:
    [build] = [call for call in found if call[0] == "build"]
    return build


@pytest.mark.parametrize("kind", ["gpu", "neuron", "prepare", "serve", "serve-gpu", "serve-neuron"])
def test_codebuild_matches_make_image(kind: str, engine: dict[str, str]) -> None:
    from stacks.constructs.image_build import BUILD

    phases: Any = BUILD["phases"]
    variables = {
        **VARIABLES,
        "KIND": kind,
        "REGISTRY": "1.dkr.ecr.us-east-1.amazonaws.com",
        "REPOSITORY": "temper-dev",
        "PUBLIC_REGISTRY": "public.ecr.aws",
    }
    script = "\n".join([*phases["pre_build"]["commands"], *phases["build"]["commands"]])
    done = sh(script, {**engine, **variables})
    assert done.returncode == 0, done.stderr
    cloud = calls(engine)
    name = f"1.dkr.ecr.us-east-1.amazonaws.com/temper-dev/{kind}:1.2.3-0123456789ab"
    assert ["push", name] in cloud
    assert done.stdout.splitlines()[-1] == name

    settings = " ".join(f"{k}={v}" for k, v in {**VARIABLES, "KIND": kind}.items())
    done = sh(f"make --silent image {settings} IMAGE={name}", engine)
    assert done.returncode == 0, done.stderr
    here = calls(engine)
    assert build_of(here) == build_of(cloud)
    assert not any(call[0] == "push" for call in here)


def test_build_arguments(engine: dict[str, str]) -> None:
    done = sh("make --silent image KIND=neuron", {**engine, "SSL_CERT_FILE": "/etc/hosts"})
    assert done.returncode == 0, done.stderr
    found = calls(engine)
    build = build_of(found)
    base = re.search(
        r"^ARG BASE_IMAGE=(.*)$", (ROOT / "containers/neuron/Dockerfile").read_text(), re.M
    )
    assert base
    assert ["pull", "--quiet", base[1]] in found
    assert build[build.index("--file") + 1] == "containers/neuron/Dockerfile"
    commit = sh("git rev-parse HEAD", engine).stdout.strip()
    assert build[build.index("--tag") + 1] == f"temper-neuron:0.2.0-{commit[:12]}"
    for argument in (f"BASE_DIGEST={DIGEST}", f"COMMIT={commit}", "VERSION=0.2.0"):
        assert argument in build
    assert "id=ca,src=/etc/hosts" in build, "a network's own certificates, as a secret"


def test_public_registry_replacement(engine: dict[str, str]) -> None:
    cache = "1.dkr.ecr.us-east-1.amazonaws.com/temper/public"
    done = sh("containers/build.sh", {**engine, "PUBLIC_REGISTRY": cache})
    assert done.returncode == 0, done.stderr
    [base] = [a for a in build_of(calls(engine)) if a.startswith("BASE_IMAGE=")]
    assert base.startswith(f"BASE_IMAGE={cache}/deep-learning-containers/pytorch:2.13")


def test_unknown_kind(engine: dict[str, str]) -> None:
    done = sh("make --silent image KIND=tpu", engine)
    assert done.returncode != 0
    assert (
        "no such KIND: tpu (gpu, neuron, prepare, serve, serve-gpu or serve-neuron)" in done.stderr
    )


def test_dockerfiles_and_scripts_pass_linters() -> None:
    tools = ROOT / ".venv/bin"
    if not (tools / "hadolint").exists():
        pytest.skip("hadolint is not installed: make .venv/.dev")
    for path in sorted(ROOT.glob("containers/*/Dockerfile")):
        done = subprocess.run(
            [tools / "hadolint", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    scripts = [*ROOT.glob("containers/*.sh"), *ROOT.glob("containers/*/*.sh"), ROOT / ".ci/run"]
    done = subprocess.run(
        [tools / "shellcheck", *scripts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def instructions(kind: str) -> list[str]:
    """Return the lines of a Dockerfile without comments, with the kind replaced by KIND."""
    text = (ROOT / f"containers/{kind}/Dockerfile").read_text()
    lines = [line.replace(kind, "KIND") for line in text.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_dockerfiles_share_instructions() -> None:
    """Lines that may differ are listed here; all others must be changed in both files."""
    only_gpu = ("BASE_IMAGE=", "torch.__version__", "CUDA", "MAX_JOBS", "deepspeed", "DS_", "nvcc")
    only_gpu += (
        "CPATH",
        "fi; \\",
        "NCCL_DEBUG",
        "TRITON_CACHE_DIR",
        "HF_HOME",
        "pip install --no-deps",
    )
    only_gpu += ("RUN --mount=type=secret,id=ca,target=/run/secrets/ca set -eu",)
    only_neuron = ("BASE_IMAGE=", "NEURON", "device.txt", "torch.__version__", "fi; \\")
    only_neuron += (
        "pip install --no-deps",
        "RUN --mount=type=secret,id=ca,target=/run/secrets/ca set",
    )
    # The last variable has no backslash.
    only_neuron += ("HF_HOME", "TORCH_INDEX", "no wheel for Python")
    gpu, neuron = instructions("gpu"), instructions("neuron")
    for line in set(gpu) - set(neuron):
        assert any(part in line for part in only_gpu), f"only in gpu: {line}"
    for line in set(neuron) - set(gpu):
        assert any(part in line for part in only_neuron), f"only in neuron: {line}"


def test_dockerfiles_of_vllm_differ_in_base_and_title() -> None:
    gpu, neuron = instructions("serve-gpu"), instructions("serve-neuron")
    assert len(gpu) == len(neuron)
    differing = [pair for pair in zip(gpu, neuron, strict=True) if pair[0] != pair[1]]
    assert [one.partition("=")[0] for one, _ in differing] == ["ARG BASE_IMAGE"]


@pytest.mark.parametrize("kind", ["neuron", "prepare", "serve", "serve-gpu", "serve-neuron"])
def test_dockerfiles_label_their_images_alike(kind: str) -> None:
    gpu, other = instructions("gpu"), instructions(kind)
    assert other[other.index("ARG VERSION=unknown") :] == gpu[gpu.index("ARG VERSION=unknown") :]


def test_context_of_an_image_holds_every_package_that_its_code_imports() -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for kind in ("gpu", "neuron", "prepare", "serve", "serve-gpu", "serve-neuron"):
        text = (ROOT / f"containers/{kind}/Dockerfile").read_text()
        sources = [
            source
            for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
            for source in line.split()
        ]
        for source in sources:
            assert (ROOT / source).exists(), f"{kind}: {source} does not exist"
            assert source.split("/")[0] in allowed, f".dockerignore leaves out {source}"
        copied = [source for source in sources if (ROOT / source / "__init__.py").exists()]
        # Another test lists what vLLM's images import: they run one command of the project.
        if kind not in ("serve-gpu", "serve-neuron"):
            assert imported_packages(copied) <= set(copied), kind


def imported_packages(packages: list[str]) -> set[str]:
    """Return this project's packages that any module of `packages` imports, at any depth."""
    here = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    return set().union(*map(_imports_of, packages)) & here


@cache
def _imports_of(package: str) -> frozenset[str]:
    """Return the top-level names that any module of a package imports, at any depth."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return frozenset(found)


def test_requirements_match_constraints() -> None:
    pins = dict(
        re.findall(r"^([\w.-]+)==([^\s;]+)(?: ;.*)?$", (ROOT / "constraints.txt").read_text(), re.M)
    )
    locks = ("gpu/requirements.txt", "gpu/deepspeed.txt", "neuron/requirements.txt")
    for name in (*locks, "prepare/requirements.txt", "serve/requirements.txt"):
        text = (ROOT / "containers" / name).read_text()
        entries = re.findall(
            r"^([\w.-]+)==([^\s;]+)([^\n]*)\n((?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)+)",
            text,
            re.M,
        )
        pinned = re.findall(r"^[\w.-]+==", text, re.M)
        assert len(entries) == len(pinned), f"{name}: something has no hash"
        for package, version, marker, _ in entries:
            if not marker.startswith(" ;"):
                assert pins[package] == version, f"{name}: run make lock-images"
    for package in ("torch", "triton"):
        assert f"\n{package}==" not in (ROOT / "containers/gpu/requirements.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    script = (ROOT / "containers/lock.sh").read_text()
    left_out = re.search(r"^for package in ([^;]*);", script, re.M)
    assert left_out
    not_served = "".join(f"{name}==" for name in left_out[1].replace("\\\n", " ").split())
    for name, kind, elsewhere in (
        ("train", "gpu", "deepspeed==torch=="),
        ("prepare", "prepare", ""),
        ("train", "serve", "deepspeed==torch==bitsandbytes==" + not_served),
        ("serve", "serve", ""),
        ("llama-cpp", "serve", ""),
        ("mask", "serve", ""),
        ("languages", "serve", ""),
        ("bedrock", "serve", ""),
    ):
        locked = (ROOT / f"containers/{kind}/requirements.txt").read_text() + elsewhere
        for requirement in extras[name]:
            package = re.split(r"[\[=><; ]", requirement)[0]
            assert f"{package}==" in locked, f"{package}: run make lock-images"
