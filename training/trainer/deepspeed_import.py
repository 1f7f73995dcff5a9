"""Import of DeepSpeed without MLflow, which only its autotuner uses."""

from __future__ import annotations

import importlib
import importlib.util
import sys


def import_deepspeed() -> None:
    """Import DeepSpeed, if it is installed, and not MLflow with it.

    Accelerate imports DeepSpeed for every trainer, and `deepspeed.autotuning` imports MLflow, which
    takes as long as DeepSpeed itself. The autotuner also works without MLflow; Temper does not use
    it, and writes to MLflow from a separate process.
    """
    if importlib.util.find_spec("deepspeed") is None:
        return
    if "mlflow" in sys.modules:
        importlib.import_module("deepspeed")
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]  # makes `import mlflow` an ImportError
    try:
        importlib.import_module("deepspeed")
    finally:
        del sys.modules["mlflow"]
