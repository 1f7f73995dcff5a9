"""Imports of a training process: without garbage collections, and without MLflow."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.trainer.deepspeed_import import import_deepspeed
from training.worker import import_uncollected


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules `mlflow` and `deepspeed` in place of the libraries."""
    module(tmp_path, "mlflow", "VERSION = 1")
    module(
        tmp_path,
        "deepspeed",
        "has_mlflow = True\ntry:\n    import mlflow\nexcept ImportError:\n    has_mlflow = False\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("deepspeed", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in ("deepspeed", "mlflow"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("fakes")
def test_deepspeed_is_imported_without_mlflow() -> None:
    import_deepspeed()
    assert sys.modules["deepspeed"].has_mlflow is False
    import mlflow

    assert mlflow.VERSION == 1
    del sys.modules["deepspeed"]
    import_deepspeed()
    assert sys.modules["deepspeed"].has_mlflow is True, "MLflow that is loaded is not hidden"


def test_objects_of_an_import_are_not_collected_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(
        tmp_path,
        "many_objects",
        "import gc\nenabled = gc.isenabled()\nmade = [[] for _ in range(999)]",
    )
    module(tmp_path, "fails_to_import", "raise RuntimeError('of the library')")
    monkeypatch.syspath_prepend(tmp_path)
    assert gc.isenabled()
    imported = import_uncollected("many_objects")
    assert not imported.enabled
    assert gc.isenabled()
    young = {id(o) for generation in range(3) for o in gc.get_objects(generation)}
    assert not any(id(o) in young for o in imported.made)
    assert import_uncollected("many_objects") is imported
    with pytest.raises(RuntimeError, match="of the library"):
        import_uncollected("fails_to_import")
    assert gc.isenabled()
    del sys.modules["many_objects"]
