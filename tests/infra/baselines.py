"""Committed templates of dev and prod, which every change is compared with.

`make baselines` rewrites them. It refuses if a deployment would replace or delete a resource that
holds data; `make baselines REPLACE=yes` accepts that, for people who have read the list.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from stacks.transitions.changes import changes
from tests.infra.conftest import OURS, synthesize

HERE = Path(__file__).parent / "baselines"
ENVIRONMENTS = ("dev", "prod")
# The hash of an asset changes with every line of Lambda code.
ASSET = re.compile(r"\b[0-9a-f]{64}\b")
Templates = dict[str, dict[str, Any]]


def main() -> None:
    """Write the baselines, or exit with the changes that lose data."""
    for name in ENVIRONMENTS:
        with tempfile.TemporaryDirectory() as folder:
            now = normalized(synthesize(OURS, name, Path(folder)).templates)
        found = changes(committed(name), now)
        for change in found:
            print(change)
        if any(change.loses_data for change in found) and os.environ.get("REPLACE") != "yes":
            sys.exit(f"{name}: a deployment would lose data (see above); REPLACE=yes accepts it")
        write(name, now)


def normalized(templates: Templates) -> Templates:
    """Return the templates without the hashes of assets."""
    text = ASSET.sub("asset", json.dumps(templates, sort_keys=True))
    found: Templates = json.loads(text)
    return found


def committed(name: str) -> Templates:
    """Return the templates in the repository; empty for a new environment."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted((HERE / name).glob("*.json"))
    }


def write(name: str, templates: Templates) -> None:
    """Write one file per stack, with one property per line for readable diffs."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / f"{stack}.json" for stack in templates}:
        stale.unlink()
    for stack, template in templates.items():
        text = json.dumps(template, indent=1, sort_keys=True) + "\n"
        (folder / f"{stack}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
