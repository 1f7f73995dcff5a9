"""The committed templates of dev and prod that every change is compared with.

`make baselines` writes them anew. It refuses where a deployment would replace or delete what holds
data; `make baselines REPLACE=yes` is for whoever has read the list and means it.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.infra.changes import changes
from tests.infra.conftest import OURS, synthesize

HERE = Path(__file__).parent / "baselines"
ENVIRONMENTS = ("dev", "prod")
# Names of assets change with every line of Lambda code; what a template says does not.
ASSET = re.compile(r"\b[0-9a-f]{64}\b")
Templates = dict[str, dict[str, Any]]


def main() -> None:
    """Writes the baselines, or says what stands against it."""
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
    """Templates without the names of assets."""
    text = ASSET.sub("asset", json.dumps(templates, sort_keys=True))
    found: Templates = json.loads(text)
    return found


def committed(name: str) -> Templates:
    """The templates in the repository; none yet for a new environment."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted((HERE / name).glob("*.json"))
    }


def write(name: str, templates: Templates) -> None:
    """Writes one file per stack, with one property per line so that a diff can be read."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.json")) - {folder / f"{stack}.json" for stack in templates}:
        stale.unlink()
    for stack, template in templates.items():
        text = json.dumps(template, indent=1, sort_keys=True) + "\n"
        (folder / f"{stack}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
