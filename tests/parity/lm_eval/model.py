"""The model that Temper and lm-eval are compared on: the same on every machine."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.factories import make_tiny_model

HERE = Path(__file__).parent


def make_parity_model(folder: Path) -> Path:
    """Save the model in a folder; its tokenizer is trained on the files here."""
    texts = [(HERE / f"{name}.jsonl").read_text("utf-8") for name in ("questions", "texts")]
    return make_tiny_model(folder, texts=texts)


if __name__ == "__main__":
    make_parity_model(Path(sys.argv[1]))
