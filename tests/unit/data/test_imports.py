from __future__ import annotations

import subprocess
import sys


def test_the_package_starts_without_heavy_libraries() -> None:
    """Torch, Transformers and the trainers take seconds; preparing data asks for none of them."""
    script = (
        "import sys; import training.data.prepare, training.data.collators.sequences\n"
        "print(*sorted({'torch', 'transformers', 'trl', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == []
