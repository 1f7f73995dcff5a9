"""A machine that cannot offload to a disk says so before anything is loaded."""

from __future__ import annotations

import pytest
from deepspeed.ops.op_builder import AsyncIOBuilder

from training.errors import RunError
from training.trainer.distributed import World, detect_world
from training.trainer.nvme import load_async_io


@pytest.fixture
def world() -> World:
    return detect_world()


def test_without_libaio_the_fix_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # The linker looks for the library where there is none.
    monkeypatch.setattr(AsyncIOBuilder, "has_function", lambda *_, **__: False)
    with pytest.raises(RunError, match=r"needs libaio and a C\+\+ compiler.*libaio-dev"):
        load_async_io(world)


def test_a_compiler_that_fails_is_quoted_in_a_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("Error building extension 'async_io':\nninja: build stopped")

    monkeypatch.setattr(AsyncIOBuilder, "has_function", lambda *_, **__: True)
    monkeypatch.setattr(AsyncIOBuilder, "load", failing)
    with pytest.raises(
        RunError, match=r"could not be compiled: ninja: build stopped\. Use offload"
    ):
        load_async_io(world)
