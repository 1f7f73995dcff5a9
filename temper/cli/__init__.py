"""The command line of Temper, declared in one place.

Commands only declare arguments here; the work is a plain function in the package that owns it.
Those packages are imported inside the commands, because loading pydantic, boto3 or torch takes
longer than `temper --help` or `temper status` may take. A test holds this.
"""

from temper.cli.application import app, main

__all__ = ["app", "main"]
