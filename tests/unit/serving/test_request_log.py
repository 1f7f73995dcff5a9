"""The log of requests: masked, complete in every way to answer, rotated, read by the watch."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.read import read_log
from preparation.masking import RowMask
from serving.command import ServeError, ServeOptions, check_options
from serving.container import options_from_environment
from serving.http.request_log import RequestLog, _Answer, _Exchange
from serving.transformers_model import TransformersServedModel
from tests.unit.serving.running import running_server

NAME = "Margaret Hamilton"
QUESTION = f"I am {NAME}, my mail is margaret@example.org. What is str.strip?"


@pytest.fixture(scope="module")
def mask() -> RowMask:
    return RowMask()


@pytest.fixture(scope="module")
def folder(served: TransformersServedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the log of a server that has answered in every way, and has stopped."""
    folder = tmp_path_factory.mktemp("log") / "requests"
    with running_server(served, max_running=4, log_requests=folder) as server:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 3, "user": NAME}
        assert server.post("/v1/chat/completions", body).status_code == 200
        server.stream("/v1/chat/completions", body)
        server.complete(["What is len?", "What is abs?"], max_tokens=2, n=2)
        server.complete([5, 6, 7], max_tokens=2)
        status, _ = server.error("/v1/completions", {"prompt": "a", "model": "absent"})
        assert status == 404
    return folder


def test_logs_each_prompt_with_its_answers_and_times(folder: Path) -> None:
    log = read_log(folder)
    assert not log.notes()
    assert len(log.calls) == 2 + 2 * 2 + 1
    for call in log.calls:
        assert call.model == "tiny" and call.answer is not None and not call.failed
        assert call.latency_s and call.first_token_s and call.first_token_s <= call.latency_s
        # The token that ends an answer counts, too, so that the third may be one.
        assert call.answer_tokens is not None and 1 <= call.answer_tokens <= 3
        assert call.finish_reason in ("length", "stop")
    assert {call.prompt for call in log.calls if isinstance(call.prompt, str)} >= {"What is len?"}


def test_masks_and_leaves_out_who_asked(folder: Path) -> None:
    texts = "".join(file.read_text() for file in folder.iterdir())
    assert NAME not in texts and "margaret@" not in texts
    assert texts.count("[EMAIL_1]") >= 2
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())


def exchange(number: int) -> _Exchange:
    record: dict[str, Any] = {"format": "temper-request", "id": str(number), "request": {}}
    return _Exchange("What is len?", record, [_Answer(["yes"], 1, "stop")])


def test_rotates_and_keeps_the_newest_files(tmp_path: Path, mask: RowMask) -> None:
    log = RequestLog(tmp_path, mask.mask, max_bytes=200, max_files=3)
    for number in range(12):
        log._put(exchange(number))
    log.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    ids = [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]
    assert ids[-1] == "11" and len(ids) < 12


def test_leaves_out_what_exceeds_the_queue(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits(shape: str, columns: Any) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(10)
        return dict(columns)

    log = RequestLog(tmp_path, waits, max_queue=1)
    log._put(exchange(0))
    assert begun.wait(10)  # the first is being written, the second waits, the third is one too many
    log._put(exchange(1))
    log._put(exchange(2))
    go_on.set()
    log.close()
    assert log.dropped == 1
    assert len(next(tmp_path.iterdir()).read_text().splitlines()) == 2


def test_a_fault_of_the_mask_writes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(shape: str, columns: Any) -> dict[str, Any]:
        raise ValueError(QUESTION)

    log = RequestLog(tmp_path, broken)
    log._put(exchange(0))
    log.close()
    assert "ValueError" in caplog.text and NAME not in caplog.text
    assert not next(tmp_path.iterdir()).read_text()


def test_refuses_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match="it is a file, not a folder"):
        check_options(ServeOptions("m", log_requests=tmp_path / "file"))
    with pytest.raises(ServeError, match="vLLM answers by itself"):
        check_options(ServeOptions("m", engine="vllm", log_requests=tmp_path))


def test_prints_its_lines_where_a_service_collects_them(
    served: TransformersServedModel, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with running_server(served, max_running=4, log_requests=Path("-")) as server:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 3}
        assert server.post("/v1/chat/completions", body).status_code == 200
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    (call,) = read_log(write_lines(tmp_path / "log.jsonl", lines)).calls
    assert call.model == "tiny" and call.answer is not None
    assert NAME not in lines[0]
    options = options_from_environment({"TEMPER_SERVE_LOG_REQUESTS": "-"})
    assert options.log_requests == Path("-")


def write_lines(path: Path, lines: list[str]) -> Path:
    """Write lines, and return the path."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
