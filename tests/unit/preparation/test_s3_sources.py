"""Sources in S3: the same rows as from local files, each state copied once, clear errors."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from preparation import source_copies
from preparation.command import plan_preparation, run_preparation
from preparation.config.load import parse_preparation
from preparation.config.source import PreparedSource
from preparation.estimate import estimate_on_target
from preparation.s3_objects import download, list_objects
from tests.emulated_s3 import KEYS, emulated_s3, s3_client
from training.errors import DataError, JobError, RunError


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with emulated_s3() as variables:
        yield variables


@pytest.fixture
def endpoint(environment: dict[str, str]) -> str:
    return environment["AWS_ENDPOINT_URL"]


@pytest.fixture
def s3(
    environment: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = s3_client(environment)
    client.create_bucket(Bucket="raw-data")
    yield client
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"))


def _rows(start: int, count: int = 30) -> bytes:
    texts = (f"Printer {n} on floor {n % 7} is broken since Monday." for n in range(start, 10**6))
    return b"".join(orjson.dumps({"text": next(texts)}) + b"\n" for _ in range(count))


FILES = {"tickets/a.jsonl": _rows(0), "tickets/more/b.jsonl": _rows(100), "tickets/c.txt": b"Hi.\n"}


def _upload(s3: Any, files: dict[str, bytes] = FILES) -> None:
    for key, content in files.items():
        s3.put_object(Bucket="raw-data", Key=key, Body=content)


def _job(folder: Path, source: str, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    prepare = {
        "sources": source, "steps": [{"step": "normalise"}], "split": {"validation": 0.2},
        "output": str(folder / "prepared"), "workers": 1, **settings,
    }  # fmt: skip
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"name": "tickets", "prepare": prepare}))
    return path


def _content(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["tickets", "tickets/a.jsonl"])
def test_the_result_is_that_of_local_files(
    name: str, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _upload(s3, FILES | {"tickets/.hidden.jsonl": b"{}", "tickets/scan.png": b"\x89PNG"})
    for key, content in FILES.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(content)
    here = _content(run_preparation(_job(tmp_path / "here", str(tmp_path / name))))
    there = _content(run_preparation(_job(tmp_path / "there", f"s3://raw-data/{name}")))
    recipe = yaml.safe_load(there.pop("recipe.yaml"))
    assert recipe["prepare"]["sources"][0]["source"] == f"s3://raw-data/{name}"
    here.pop("recipe.yaml")
    assert there == here
    assert "scan.png" not in str(list((tmp_path / "there").rglob("*")))
    assert f"copying s3://raw-data/{name} (" in capsys.readouterr().out


def test_a_state_is_copied_once_and_only_what_changed_is_copied_again(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _upload(s3)
    job = _job(tmp_path, "s3://raw-data/tickets/")
    first = run_preparation(job)
    capsys.readouterr()
    assert run_preparation(job) == first
    assert "copying" not in capsys.readouterr().out
    _upload(s3, {"tickets/a.jsonl": _rows(500)})
    second = run_preparation(job)
    assert second != first, "another content has another name"
    assert "copying" in capsys.readouterr().out
    copies = {path.stat().st_ino for path in tmp_path.rglob(".sources/**/b.jsonl")}
    assert len(copies) == 1, "the unchanged object is a link"
    assert len(list(tmp_path.rglob(".sources/**/a.jsonl"))) == 2
    _upload(s3, FILES)
    assert run_preparation(job) == first
    assert Path(first).name in str((tmp_path / "prepared/tickets/latest").readlink())


def test_an_interrupted_copy_is_resumed(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _upload(s3)
    job = _job(tmp_path, "s3://raw-data/tickets/")
    read: list[str] = []

    def failing(uri: str, one: Any, to: Any, limit: int | None = None) -> None:
        read.append(one.name)
        if one.name == "more/b.jsonl" and read.count(one.name) == 1:
            to.write(b"{")
            raise RunError("cut")
        download(uri, one, to, limit)

    monkeypatch.setattr(source_copies, "download", failing)
    monkeypatch.setattr(source_copies, "THREADS", 1)
    with pytest.raises(RunError, match="cut"):
        run_preparation(job)
    assert not list(tmp_path.rglob(".sources/*/[!.]*")), "what is there is no complete copy"
    folder = run_preparation(job)
    assert sorted(read) == ["a.jsonl", "c.txt", "more/b.jsonl", "more/b.jsonl"]
    assert json.loads((Path(folder) / "report.json").read_text())["rows_read"] == 61
    assert not list(tmp_path.rglob(".incoming-*"))


def test_an_object_that_is_replaced_while_it_is_read_ends_the_preparation(
    s3: Any, tmp_path: Path
) -> None:
    _upload(s3)
    listing = list_objects(PreparedSource(source="s3://raw-data/tickets"))
    _upload(s3, {"tickets/a.jsonl": _rows(1)})
    one = listing.objects[0]
    with (
        (tmp_path / "a").open("wb") as to,
        pytest.raises(DataError, match=r"a\.jsonl: it changed while it was read"),
    ):
        download(listing.uri, one, to)
    s3.delete_object(Bucket="raw-data", Key="tickets/a.jsonl")
    with (tmp_path / "a").open("wb") as to, pytest.raises(DataError, match="was deleted while"):
        download(listing.uri, one, to)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://raw-data/tickts/", "the bucket has no object tickts, and none below tickts/"),
        ("s3://other-data/x", "there is no bucket other-data, or these credentials cannot see it"),
        ("s3://raw-data/images", r"none of its 2 objects is of a format that is read: \.png \(2\)"),
    ],
)
def test_what_is_missing_is_named(source: str, message: str, s3: Any, tmp_path: Path) -> None:
    _upload(s3, {"images/a.png": b"1", "images/b.png": b"2"})
    with pytest.raises(DataError, match=message):
        run_preparation(_job(tmp_path, source))
    assert not list(tmp_path.rglob("prepared/tickets/*"))


def test_an_address_without_a_bucket_is_a_problem_of_the_job(tmp_path: Path) -> None:
    sources = ["s3://", "s3:/raw-data/x", "s3://Raw_Data/x", "s3://raw-data/x"]
    document = {"name": "tidy", "prepare": {"sources": sources}}
    with pytest.raises(JobError) as error:
        parse_preparation(document, "job.yaml")
    assert [problem.path for problem in error.value.problems] == [
        f"prepare.sources.{index}.source" for index in range(3)
    ]
    assert "Write s3://BUCKET/KEY" in str(error.value)


def test_denied_access_says_what_is_needed(s3: Any, endpoint: str, tmp_path: Path) -> None:
    _upload(s3)

    def require_permissions(after: str) -> None:
        address = f"{endpoint}/moto-api/reset-auth"
        text = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, after.encode(), text))

    require_permissions("0")
    try:
        with pytest.raises(DataError, match=r"access is denied.*s3:GetObject.*get-caller"):
            run_preparation(_job(tmp_path, "s3://raw-data/tickets/"))
    finally:
        require_permissions("inf")


def test_an_endpoint_that_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="S3 does not answer"):
        run_preparation(_job(tmp_path, "s3://raw-data/tickets/"))


def test_a_disk_without_room_is_named_before_anything_is_copied(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _upload(s3)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(source_copies.shutil, "disk_usage", lambda _: full)
    with pytest.raises(RunError, match=r"needs 0 MiB, and the disk .* Set prepare\.copies"):
        run_preparation(_job(tmp_path, "s3://raw-data/tickets/", copies=str(tmp_path / "copies")))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_the_plan_of_a_target_reads_beginnings_only(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _upload(s3, {"tickets/a.jsonl": _rows(0, 4_000)})
    monkeypatch.setattr(source_copies, "_SAMPLED_BYTES", 20_000)
    job = parse_preparation(
        {"name": "tidy", "prepare": {"sources": "s3://raw-data/tickets"}}, "job.yaml"
    )
    found, listings = estimate_on_target(job)
    listing = listings["s3://raw-data/tickets"]
    assert found.bytes == listing.bytes == len(_rows(0, 4_000))
    assert 3_800 < found.rows < 4_200
    assert replace(listing, uri="s3://raw-data/other").version == listing.version
    plan_preparation(_job(tmp_path, "s3://raw-data/tickets"))
    assert "tickets: 1 units" in capsys.readouterr().out


@pytest.mark.parametrize("at", [1, 6, 12])
def test_a_copy_that_another_node_completes_meanwhile_leaves_nothing_unfinished(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    _upload(s3, {f"tickets/{n}.jsonl": _rows(100 * n) for n in range(12)})
    job = parse_preparation(
        {"name": "tidy", "prepare": {"sources": "s3://raw-data/tickets", "copies": str(tmp_path)}},
        "job.yaml",
    )
    begun = itertools.count(1)

    def download_while_another_node_copies(*arguments: Any) -> None:
        if next(begun) == at:
            monkeypatch.setattr(source_copies, "download", download)
            source_copies.copy_sources(job, lambda _: None)
        download(*arguments)

    monkeypatch.setattr(source_copies, "THREADS", 1)
    monkeypatch.setattr(source_copies, "download", download_while_another_node_copies)
    [copy] = source_copies.copy_sources(job, lambda _: None).values()
    assert len(list(copy.iterdir())) == 12
    assert [path.name for path in copy.parents[1].iterdir()] == [copy.parent.name]


@pytest.mark.slow
def test_nodes_that_copy_at_the_same_time_read_the_same_rows(s3: Any, tmp_path: Path) -> None:
    _upload(s3, {f"tickets/{n}.jsonl": _rows(100 * n) for n in range(12)})
    one = run_preparation(_job(tmp_path / "one", "s3://raw-data/tickets"))
    job = _job(tmp_path / "two", "s3://raw-data/tickets")
    places = [{"SLURM_NTASKS": "2", "SLURM_PROCID": str(n), "SLURM_JOB_ID": "5"} for n in (0, 1)]
    command = [sys.executable, "-m", "temper", "prepare", str(job)]
    nodes = [
        subprocess.Popen(command, env=os.environ | place, stderr=subprocess.PIPE, text=True)
        for place in places
    ]
    for node in nodes:
        _, errors = node.communicate(timeout=240)
        assert node.returncode == 0, errors
    assert _content(tmp_path / "two/prepared/tickets/latest") == _content(one)
    assert not list(tmp_path.rglob(".sources/*/.[bi]*")), "nothing unfinished is left"
