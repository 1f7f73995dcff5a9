"""Schema of `environments/<env>.yaml`: one module per section, all of them frozen and closed."""

from stacks.settings.environment import Environment
from stacks.settings.load import read_environment

__all__ = ["Environment", "read_environment"]
