"""What an `environments/<env>.yaml` may say: one file per section, frozen and closed."""

from stacks.settings.environment import Environment
from stacks.settings.load import read_environment

__all__ = ["Environment", "read_environment"]
