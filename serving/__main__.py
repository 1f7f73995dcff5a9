"""Server of a container, whose settings are environment variables: `python -m serving`."""

from __future__ import annotations

import os
import sys

from serving.command import run_server
from serving.container import options_from_environment
from training.errors import TemperError


def main() -> int:
    """Serve until the container is told to stop, and return the exit code."""
    try:
        return run_server(options_from_environment(os.environ))
    except TemperError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
