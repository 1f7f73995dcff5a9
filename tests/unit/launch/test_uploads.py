"""Uploads are reused while the bucket keeps them for longer than any job runs."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.aws.s3 import S3Store


class FakeS3:
    """Client that has one object of a given age, and records what is uploaded."""

    def __init__(self, age_days: float):
        self.written = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age_days)
        self.uploads: list[str] = []

    def head_object(self, **_: str) -> dict[str, Any]:
        """Return the object's size and time."""
        return {"ContentLength": 3, "LastModified": self.written}

    def upload_file(self, file: str, bucket: str, key: str, **_: Any) -> None:
        """Record an upload."""
        self.uploads.append(f"{bucket}/{key}")


@pytest.mark.parametrize(
    ("age_days", "upload_days", "sent"),
    [(89, 180, False), (91, 180, True), (400, None, False)],
)
def test_an_old_upload_is_renewed_before_it_expires(
    tmp_path: Path, age_days: float, upload_days: int | None, sent: bool
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("abc")
    artifact: Any = SimpleNamespace(
        digest="0" * 64, files=[file], relative_path=lambda each: each.name
    )
    client = FakeS3(age_days)
    uri = S3Store(client).upload_artifact(artifact, "data", upload_days)
    assert str(uri) == f"s3://data/uploads/{'0' * 24}/"
    assert client.uploads == ([f"data/uploads/{'0' * 24}/rows.jsonl"] if sent else [])
