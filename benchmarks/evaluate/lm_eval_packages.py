"""lm-eval in a folder of its own, next to the packages that both contestants share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LM_EVAL = "lm-eval==0.4.13"


def install_lm_eval() -> Path:
    """Return the folder of lm-eval without its dependencies, which is filled once.

    Both contestants run on the same torch, Transformers and tokenizers, which Temper installs.

    Raises:
        SystemExit: It cannot be installed.
    """
    folder = Path.home() / ".cache/temper/benchmarks" / LM_EVAL
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = folder.with_name(f".{os.getpid()}-{LM_EVAL}")
    command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--quiet", LM_EVAL]
    done = subprocess.run(
        [*command, "--target", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{LM_EVAL} cannot be installed: {done.stderr.strip()[-500:]}")
    target.rename(folder)
    return folder
