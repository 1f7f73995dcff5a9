"""Messages about models that cannot be loaded."""

from __future__ import annotations

from pathlib import Path

from training.models.locate import explain_missing


def test_what_is_missing_is_named_first(tmp_path: Path) -> None:
    error = OSError("Couldn't instantiate the backend tokenizer from one of:\n(1) a file,")
    said = explain_missing("model", str(tmp_path), error)
    assert f"{tmp_path} could not be read: it has no config.json. The folder has: nothing" in said
    (tmp_path / "config.json").write_text("{}")
    said = explain_missing("model", str(tmp_path), OSError("no weights found in it."))
    assert said.endswith("no weights found in it. The folder has: config.json")
    assert "does not exist" in explain_missing("model", str(tmp_path / "other"), error)


def test_a_tokenizer_needs_no_config(tmp_path: Path) -> None:
    said = explain_missing("tokenizer", str(tmp_path), OSError("bad JSON"))
    assert "bad JSON" in said
