"""`make bench-prepare` runs every benchmark of data preparation."""

from __future__ import annotations

from pathlib import Path

from benchmarks.prepare import __main__ as runner


def test_runner_lists_every_benchmark() -> None:
    modules = Path(runner.__file__).parent.glob("*.py")
    runnable = {path.stem for path in modules if 'if __name__ == "__main__":' in path.read_text()}
    assert runnable - {"__main__"} == set(runner.BENCHMARKS)
