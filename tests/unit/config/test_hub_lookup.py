"""Names on the Hub: looked up before anything heavy is loaded, on a Hub of this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories import write_jsonl
from tests.run_commands import ROOT
from training.config import load_job
from training.config.hub_lookup import HubAnswer, ask_hub
from training.config.input_paths import require_inputs, require_model
from training.errors import DataError, ModelError

ANSWERS = {
    "/owner/model/resolve/main/config.json": (200, ""),
    "/owner/adapter/resolve/main/config.json": (404, "EntryNotFound"),
    "/owner/gated/resolve/main/config.json": (403, "GatedRepo"),
    "/owner/model/resolve/v9/config.json": (404, "RevisionNotFound"),
    "/owner/busy/resolve/main/config.json": (503, ""),
    "/datasets/owner/rows/resolve/main/README.md": (200, ""),
}
"""Status and `X-Error-Code` by path; every other path is that of no repository."""


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        status, code = ANSWERS.get(self.path, (401, "RepoNotFound"))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a Hub on this machine, with an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield url
    server.shutdown()
    server.server_close()


def write_job(folder: Path, model: str = "owner/model", **sections: Any) -> Path:
    document = {
        "name": "hub",
        "model": {"source": model},
        "data": {"train": "owner/rows"},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
        **sections,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("name", ["owner/model", "owner/adapter"])
def test_model_that_exists(hub: str, name: str) -> None:
    answer = ask_hub(name, "model")
    assert (answer.problem, answer.unknown) == ("", "")


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/modle", None, "no such name on the Hub"),
        ("nope", None, "no such name on the Hub"),
        ("owner/gated", None, "is gated: accept its terms on https://huggingface.co/owner/gated"),
        ("owner/model", "v9", "has no revision v9"),
    ],
)
def test_model_that_cannot_be_downloaded(
    hub: str, name: str, revision: str | None, message: str
) -> None:
    assert message in ask_hub(name, "model", revision).problem


def test_busy_hub_is_not_an_error(hub: str) -> None:
    answer = ask_hub("owner/busy", "model")
    assert answer.problem == "" and "HTTP 503" in answer.unknown and not answer.unreachable


def test_every_missing_input_is_named_at_once(hub: str, tmp_path: Path) -> None:
    rows = {"train": ["owner/rwos", str(tmp_path / "rows.jsonl")]}
    path = write_job(tmp_path, "owner/modle", data=rows)
    with pytest.raises(DataError) as error:
        require_inputs(load_job(path), tmp_path)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "data.train.1.source",
        "model.source",
        "data.train.0.source",
    ]


def test_revision_of_the_model_is_looked_up(hub: str, tmp_path: Path) -> None:
    path = write_job(tmp_path)
    assert require_inputs(load_job(path), tmp_path) == []
    with pytest.raises(ModelError, match="has no revision v9"):
        require_inputs(load_job(path, "model.revision=v9"), tmp_path)


def test_hub_out_of_reach_stops_only_runs_of_this_machine(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    job = load_job(write_job(tmp_path))
    unknown = require_inputs(job, tmp_path)
    assert len(unknown) == 2 and all("could not be reached" in line for line in unknown)
    with pytest.raises(DataError, match="not in the Hub's cache"):
        require_inputs(job, tmp_path, here=True)


def test_cached_names_are_not_asked_about(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ask_hub("owner/model", "model").unreachable
    (tmp_path / "cache/hub/models--owner--model/snapshots/abc").mkdir(parents=True)
    (tmp_path / "cache/datasets/owner___rows/default").mkdir(parents=True)
    assert ask_hub("owner/model", "model") == ask_hub("owner/rows", "data") == HubAnswer()


def test_model_of_a_command(hub: str, tmp_path: Path) -> None:
    require_model(str(tmp_path), "MODEL")
    require_model("owner/model", "MODEL")
    with pytest.raises(ModelError, match="MODEL: nope: no such folder, and no such name"):
        require_model("nope", "MODEL")
    with pytest.raises(ModelError, match=r"--before: \./nope/x: there is no such file or folder"):
        require_model("./nope/x", "--before")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("check", "{job}"), 3),
        (("plan", "{job}"), 3),
        (("train", "{job}"), 3),
        (("train", "{job}", "--target", "slurm"), 3),
        (("redteam", "nope"), 4),
        (("bias", "nope"), 4),
    ],
)
def test_commands_stop_before_torch_is_loaded(
    hub: str, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    job = write_job(tmp_path, "nope", data={"train": "rows-that-are-not.jsonl"})
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])
    script = (
        "import sys; from temper.cli import main; code = main(sys.argv[1:]);"
        "print('torch' in sys.modules, 'transformers' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *(a.format(job=job) for a in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nope: no such folder, and no such name on the Hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout.strip()) == (code, "False False")
