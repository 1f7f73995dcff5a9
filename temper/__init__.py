"""The `temper` command line: one application, one small module per group of commands."""

from training import __version__

__all__ = ["__version__"]
