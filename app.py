"""CDK application: read `environments/<env>.yaml` and synthesize its stacks (`make synth ENV=dev`).

The only file of the platform with inputs from outside: the CDK context names the environment.
"""

import os
import sys
from pathlib import Path

import aws_cdk as cdk

from stacks.errors import SettingsError
from stacks.feature_flags import FLAGS
from stacks.nag.public_packs import attach
from stacks.platform import build
from stacks.settings import read_environment


def main() -> None:
    """Synthesize one environment, or exit with every problem of its file."""
    app = cdk.App(context=FLAGS)
    folder = Path(
        app.node.try_get_context("environments")
        or os.environ.get("TEMPER_ENVIRONMENTS", "environments")
    )
    name = app.node.try_get_context("env") or "dev"
    try:
        environment = read_environment(folder, name)
    except SettingsError as error:
        sys.exit(str(error))
    build(app, environment)
    attach(app)
    app.synth()


if __name__ == "__main__":
    main()
