"""Check of NVMe offload: libaio, and DeepSpeed's `async_io` operator that uses it.

https://www.deepspeed.ai/tutorials/zero/#offloading-to-cpu-and-nvme-with-zero-infinity
"""

from __future__ import annotations

from pathlib import Path

import torch.utils.cpp_extension as cpp_extension
from deepspeed.git_version_info import installed_ops
from deepspeed.ops.op_builder import AsyncIOBuilder

from training.console import say
from training.errors import RunError
from training.trainer.distributed import World


def load_async_io(world: World) -> None:
    """Load DeepSpeed's `async_io` operator, and compile it first if necessary.

    DeepSpeed itself would report a missing library minutes later, inside a compiler's output.

    Raises:
        RunError: libaio or a compiler is missing, or the compilation failed.
    """
    builder = AsyncIOBuilder()
    if not builder.is_compatible(verbose=False):
        raise RunError(
            "sharding.offload: nvme needs libaio and a C++ compiler, and this machine lacks one of "
            "them. Install them (apt-get install libaio-dev g++, or dnf install libaio-devel "
            "gcc-c++), or use offload: cpu"
        )
    if world.is_main_process and not _is_built(builder):
        say("compiling DeepSpeed's async_io, once on this machine; this takes minutes …")
    try:
        builder.load(verbose=False)
    except (RuntimeError, OSError) as error:
        raise RunError(
            f"DeepSpeed's async_io, which sharding.offload: nvme needs, could not be compiled: "
            f"{str(error).strip().splitlines()[-1]}. Use offload: cpu, or fix the compiler"
        ) from error


def _is_built(builder: AsyncIOBuilder) -> bool:
    if installed_ops.get(builder.name):
        return True
    folder = cpp_extension._get_build_directory(builder.name, verbose=False)
    return (Path(folder) / f"{builder.name}.so").exists()
