"""Session of a person on the review page: a signed cookie and a token for forms."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import quote, unquote

COOKIE = "temper_review"


class Sessions:
    """Sessions of one server; they end with it.

    Args:
        key: Key that a person enters; empty for none.
    """

    def __init__(self, key: str = ""):
        self._key = key
        self._secret = secrets.token_bytes(32)

    @property
    def needs_key(self) -> bool:
        """True if a person must enter a key."""
        return bool(self._key)

    def accepts(self, key: str) -> bool:
        """Return whether a key is right."""
        return hmac.compare_digest(key.encode(), self._key.encode())

    def cookie(self, name: str) -> str:
        """Return the cookie of a person."""
        return f"{quote(name, safe='')}.{self._sign('cookie', name)}"

    def name(self, cookie: str) -> str | None:
        """Return the name in a cookie; None if this server did not write it."""
        quoted, _, signature = cookie.rpartition(".")
        name = unquote(quoted)
        valid = hmac.compare_digest(signature.encode(), self._sign("cookie", name).encode())
        return name if name and valid else None

    def form_token(self, name: str) -> str:
        """Return the token that forms of a person carry, which other sites cannot know."""
        return self._sign("form", name)

    def is_form_token(self, name: str, token: str) -> bool:
        """Return whether a form was written for a person by this server."""
        return hmac.compare_digest(token.encode(), self.form_token(name).encode())

    def _sign(self, purpose: str, name: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{name}".encode(), hashlib.sha256).hexdigest()
