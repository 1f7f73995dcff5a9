"""Settings of the trainer that depend on device `neuron`, which no machine here has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.config.load import parse_job
from training.models.double_precision import in_double
from training.trainer.arguments import training_arguments
from training.trainer.batch_size_finder import find_micro_batch_size
from training.trainer.distributed import World, detect_world


def test_the_backend_is_loaded_and_each_process_takes_its_own_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch_neuronx.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "3")
    taken: list[int] = []
    neuron = SimpleNamespace(
        is_available=lambda: "torch_neuronx" in sys.modules,
        current_accelerator=lambda: SimpleNamespace(type="neuron"),
        device_count=lambda: 4,
        set_device_index=taken.append,
    )
    monkeypatch.setattr(torch, "accelerator", neuron)
    # This build of torch knows no device of that name: it is made from its parts.
    monkeypatch.setattr(torch, "device", lambda *parts: parts)
    try:
        assert detect_world().device == ("neuron", 3)
        assert taken == [3]
    finally:
        sys.modules.pop("torch_neuronx", None)


def test_no_kernel_of_another_device_is_asked_for(document: dict[str, Any], tmp_path: Path) -> None:
    job = parse_job(document, "test")
    for device, optimizer, pinned in (
        ("cpu", "adamw_torch_fused", False),
        ("cuda", "adamw_torch_fused", True),
        ("neuron", "adamw_torch", False),
    ):
        arguments = training_arguments(
            job,  # type: ignore[arg-type]  # a job without stages
            output_dir=tmp_path,
            max_steps=2,
            micro_batch_size=8,
            world_size=1,
            device_type=device,
        )
        assert arguments["optim"] == optimizer
        assert arguments["dataloader_pin_memory"] is pinned


def test_double_precision_is_on_the_host() -> None:
    class OnDevice:
        """Tensor of a device without fp64."""

        device = SimpleNamespace(type="neuron")

        def cpu(self) -> torch.Tensor:
            return torch.ones(3)

        def double(self) -> torch.Tensor:
            raise AssertionError("fp64 on a device without it")

    assert in_double(OnDevice()).dtype == torch.float64  # type: ignore[arg-type]  # as its text says
    assert in_double(torch.ones(3)).dtype == torch.float64


def test_no_search_compiles_one_size_after_the_other(
    document: dict[str, Any], tmp_path: Path
) -> None:
    del document["train"]["micro_batch_size"]
    job = parse_job(document, "test")
    world = World(0, 0, 1, SimpleNamespace(type="neuron"))  # type: ignore[arg-type]  # see above

    def forward(size: int) -> torch.Tensor:
        raise AssertionError(f"compiled for {size} rows")

    size = find_micro_batch_size(
        job,  # type: ignore[arg-type]  # a job without stages
        None,
        world,
        forward,
        tmp_path / "probe.json",
        row_tokens=96,
    )
    assert size == 1
