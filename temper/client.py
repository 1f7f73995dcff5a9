"""Client for applications, by the name under which they import it (docs/client.md)."""

try:
    from client import *  # noqa: F403 (the names are those of `client.__all__`)
    from client import __all__ as __all__
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    message = 'httpx2 is not installed, which temper.client needs: pip install "temper[client]"'
    raise ModuleNotFoundError(message, name=error.name) from None
