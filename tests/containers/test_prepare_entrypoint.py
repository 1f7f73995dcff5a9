"""The entry point of the image `prepare` fulfils the contract of SageMaker's processing jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.entrypoint.errors import StartError
from containers.entrypoint.prepare import PrepareOptions, explain_end, prepare
from containers.entrypoint.processing import ProcessingFolder, shorten
from tests.containers.processing_layout import lay_out_processing


def test_the_job_is_the_one_file_of_its_input(tmp_path: Path) -> None:
    folder = ProcessingFolder(lay_out_processing(tmp_path / "ml"))
    assert folder.exists
    assert folder.region() == "eu-west-1"
    with pytest.raises(StartError, match="no job was given"):
        folder.job_file()
    job = folder.root / "processing/input/job/prepare.yaml"
    job.write_text("name: tidy\n")
    assert folder.job_file() == job
    job.with_name("other.yml").write_text("name: other\n")
    with pytest.raises(
        StartError, match=r"must hold one job file, and has other.yml, prepare.yaml"
    ):
        folder.job_file()


def test_outside_of_sagemaker_nothing_is_written(tmp_path: Path) -> None:
    folder = ProcessingFolder(tmp_path)
    folder.write_message("a message")
    assert not folder.exists
    assert folder.region() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_message_has_one_kilobyte_of_utf8_at_most() -> None:
    assert shorten("fine") == "fine"
    for text in ("ü" * 600, "x" + "ü" * 600, "x" * 1025, "\udcff" * 2000):
        short = shorten(text)
        assert len(short.encode()) <= 1024
        assert short.endswith(" …")


@pytest.mark.parametrize(
    ("code", "said", "stopped_by", "expected", "words"),
    [
        (0, "5 rows read, 4 written\ns3://b/prepared/a/1", None, 0, "s3://b/prepared/a/1"),
        (2, "a.yaml: 2 problems\n  name: missing", None, 2, "a.yaml: 2 problems\n  name: missing"),
        (3, "rows.jsonl: cut short", None, 3, "rows.jsonl: cut short"),
        (137, "", None, 4, "ended by signal 9, most often because memory ran out"),
        (143, "", 15, 75, "stopped by SIGTERM"),
        (130, "", 2, 75, "stopped by SIGINT"),
        (1, "", None, 4, "unexpected error"),
    ],
    ids=["done", "job", "data", "killed", "stopped", "interrupted", "unexpected"],
)
def test_each_end_has_its_code_and_its_reason(
    code: int, said: str, stopped_by: int | None, expected: int, words: str
) -> None:
    ended, message = explain_end(code, said, stopped_by)
    assert ended == expected
    assert words in message


def test_a_node_ended_by_another_leaves_the_message_to_it() -> None:
    assert explain_end(4, "node 0 failed: the disk is full", None) == (4, "")


def test_the_error_of_a_job_becomes_the_exit_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = lay_out_processing(tmp_path / "ml")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(root))
    assert prepare(PrepareOptions()) == 2
    assert "no job was given" in (root / "output/message").read_text()
    (root / "processing/input/job/prepare.yaml").write_text("name: tidy\nprepare: {source: [x]}\n")
    assert prepare(PrepareOptions(overrides=("prepare.unit_mib=0",))) == 2
    message = (root / "output/message").read_text()
    for word in ("prepare.source: no such key", "prepare.unit_mib", "0"):
        assert word in message
    assert message.strip() in capfd.readouterr().err, "the log has it too"
