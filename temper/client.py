"""Client for applications, by the name under which they import it (docs/client.md)."""

from client import *  # noqa: F403 (the names are those of `client.__all__`)
from client import __all__ as __all__
