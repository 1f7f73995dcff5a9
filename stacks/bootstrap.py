"""Arguments of `cdk bootstrap` for one environment (`make bootstrap ENV=dev`).

Run `python -m stacks.bootstrap ENV`: it prints the account, the Region and the qualifier, so that
the account is bootstrapped as the stacks of the environment expect it.
"""

import os
import shlex
import sys
from pathlib import Path

from stacks.errors import SettingsError
from stacks.settings import Environment, read_environment

DEFAULT_QUALIFIER = "hnb659fds"


def bootstrap_arguments(environment: Environment) -> list[str]:
    """Return the arguments of `cdk bootstrap`.

    Without an account in the file, the CDK takes that of the credentials. Another qualifier gets a
    stack of its own: `CDKToolkit` belongs to the default one.
    """
    arguments = []
    if environment.account:
        arguments.append(f"aws://{environment.account}/{environment.region}")
    qualifier = environment.cdk_qualifier
    if qualifier != DEFAULT_QUALIFIER:
        arguments += ["--qualifier", qualifier, "--toolkit-stack-name", f"CDKToolkit-{qualifier}"]
    return arguments


def main() -> None:
    """Print the arguments of the environment that the command line names."""
    try:
        folder = Path(os.environ.get("TEMPER_ENVIRONMENTS", "environments"))
        environment = read_environment(folder, sys.argv[1])
    except SettingsError as error:
        sys.exit(str(error))
    sys.stdout.write(shlex.join(bootstrap_arguments(environment)) + "\n")


if __name__ == "__main__":
    main()
