"""Check and measure a GPU: `make bench-gpu [PART=NAME] [ARGS="--resume"]`.

Everything is made here: models have random weights, rows are random words, and no network is used.
Each part runs alone, ends within a time limit, and appends its rows to the file of results as they
come. With `--device cpu` all parts run at a tiny scale, which proves the code and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.results import ResultsFile
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.section import write

PARTS = (
    "packing",
    "precision",
    "resume",
    "quantized",
    "guards",
    "online",
    "memory-full",
    "memory-adapters",
    "memory-methods",
    "speed",
    "speed-torchtune",
    "speed-llamafactory",
    "speed-unsloth",
    "contract",
    "zero",
)
"""All parts, the most valuable first."""
_LIMIT_MINUTES = 8.0


def main() -> int:
    """Run the parts that were named, or all, and write the section of the results page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--home", type=Path, default=Path("runs/.gpu"), help="models and logs")
    parser.add_argument("--results", type=Path, help="HOME/results.jsonl if left out")
    parser.add_argument("--minutes", type=float, default=_LIMIT_MINUTES, help="limit of a part")
    parser.add_argument("--resume", action="store_true", help="leave out cases that passed")
    parser.add_argument("--list", action="store_true", help="print the parts and run nothing")
    options = parser.parse_args()
    if options.list:
        print("\n".join(PARTS))
        return 0
    if options.device == "cuda" and not _has_gpu():
        print(
            "This machine has no CUDA device (or torch is a CPU build). Install the wheels of "
            "benchmarks/gpu/README.md on a GPU machine, or use --device cpu for a tiny run",
            file=sys.stderr,
        )
        return 2
    results = ResultsFile((options.results or options.home / "results.jsonl").resolve())
    runner = Runner(
        device=options.device,
        home=options.home.resolve(),
        results=results,
        limit_s=options.minutes * 60,
        only=options.case,
        resume=options.resume,
    )
    passed = {part: _run(runner, part) for part in options.part or PARTS}
    if any(row["device"] == "cuda" for row in results.rows()):
        write(results)
    failed = [part for part, ok in passed.items() if not ok]
    print(f"{len(passed) - len(failed)} of {len(passed)} parts passed; rows in {results.path}")
    return 1 if failed else 0


def _run(runner: Runner, part: str) -> bool:
    first = len(runner.results.rows())
    print(f"{part} …", flush=True)
    passed = runner.run(part)
    for row in runner.results.rows()[first:]:
        print(f"  {row['case']}: {row['status']} {row.get('error', '')}", flush=True)
    return passed


def _has_gpu() -> bool:
    """Return whether torch sees a GPU, asked in another process that holds no context."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
