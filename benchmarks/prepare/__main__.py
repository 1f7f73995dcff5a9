"""Run every benchmark of data preparation, or one: `make bench-prepare [ONLY=duplicates] [DATA=…]`.

Each runs in a process of its own, because some measure the peak memory of their process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.training_runs import DATA

# In order of their duration, shortest first.
BENCHMARKS = (
    "toxicity",
    "secrets_in_code",
    "quality",
    "quality_classifier",
    "language",
    "row_rules",
    "contamination",
    "personal_data",
    "duplicates",
    "all_sources",
    "training",
)


def main() -> int:
    """Run the benchmarks one after the other, and return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, help="run one of them")
    parser.add_argument("--data", type=Path, default=DATA, help=f"default: {DATA}")
    options = parser.parse_args()
    failed = []
    for name in (options.only,) if options.only else BENCHMARKS:
        command = [sys.executable, "-m", f"benchmarks.prepare.{name}", "--data", str(options.data)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
