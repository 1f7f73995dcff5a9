"""Made-up secrets in the formats of their providers, in the places where secrets are written."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable, Mapping

_LETTERS_AND_DIGITS = string.ascii_letters + string.digits
_BASE64 = _LETTERS_AND_DIGITS + "+/"
_BASE64_URL = _LETTERS_AND_DIGITS + "_-"


def _draw(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _aws_key(rng: random.Random) -> str:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    prefix = rng.choice(("AKIA", "ASIA"))
    return prefix + _draw(rng, string.ascii_uppercase + "234567", 16)


def _aws_secret(rng: random.Random) -> str:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html
    return _draw(rng, _BASE64, 40)


def _github_token(rng: random.Random) -> str:
    # https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
    if rng.random() < 0.3:
        first, second = (_draw(rng, _LETTERS_AND_DIGITS, count) for count in (22, 59))
        return f"github_pat_{first}_{second}"
    entropy = _draw(rng, _LETTERS_AND_DIGITS, 30)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    rest, checksum = zlib.crc32(entropy.encode()), ""
    while rest:
        rest, digit = divmod(rest, 62)
        checksum = digits[digit] + checksum
    return f"{rng.choice(('ghp', 'gho', 'ghu', 'ghs', 'ghr'))}_{entropy}{checksum.rjust(6, '0')}"


def _gitlab_token(rng: random.Random) -> str:
    # https://docs.gitlab.com/security/tokens/#token-prefixes
    prefix = rng.choice(("glpat", "gldt", "glrt", "glptt"))
    if prefix == "glptt":
        return f"glptt-{_draw(rng, '0123456789abcdef', 40)}"
    return f"{prefix}-{_draw(rng, _BASE64_URL, 20)}"


def _google_key(rng: random.Random) -> str:
    # https://docs.cloud.google.com/docs/authentication/api-keys
    return "AIza" + _draw(rng, _BASE64_URL, 35)


def _hugging_face_token(rng: random.Random) -> str:
    # https://huggingface.co/docs/hub/security-tokens
    return "hf_" + _draw(rng, string.ascii_letters, 34)


def _openai_key(rng: random.Random) -> str:
    # https://platform.openai.com/docs/api-reference/project-api-keys
    if rng.random() < 0.3:
        return (
            f"sk-{_draw(rng, _LETTERS_AND_DIGITS, 20)}T3BlbkFJ{_draw(rng, _LETTERS_AND_DIGITS, 20)}"
        )
    kind = rng.choice(("proj", "svcacct", "admin"))
    return f"sk-{kind}-{_draw(rng, _BASE64_URL, 74)}T3BlbkFJ{_draw(rng, _BASE64_URL, 73)}A"


def _anthropic_key(rng: random.Random) -> str:
    # https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns
    kind = rng.choice(("api03", "admin01"))
    return f"sk-ant-{kind}-{_draw(rng, _BASE64_URL, 93)}AA"


def _slack_token(rng: random.Random) -> str:
    # https://docs.slack.dev/authentication/tokens
    if rng.random() < 0.25:
        team, channel = (_draw(rng, string.ascii_uppercase + string.digits, 10) for _ in "ab")
        key = _draw(rng, _LETTERS_AND_DIGITS, 24)
        return f"https://hooks.slack.com/services/T{team}/B{channel}/{key}"
    first, second = (_draw(rng, string.digits, 12) for _ in "ab")
    if rng.random() < 0.5:
        return f"xoxb-{first}-{second}-{_draw(rng, _LETTERS_AND_DIGITS, 24)}"
    third = _draw(rng, string.digits, 12)
    return f"xoxp-{first}-{second}-{third}-{_draw(rng, '0123456789abcdef', 32)}"


def _stripe_key(rng: random.Random) -> str:
    # https://docs.stripe.com/keys
    return (
        f"{rng.choice(('sk', 'rk'))}_live_{_draw(rng, _LETTERS_AND_DIGITS, rng.choice((24, 99)))}"
    )


def _private_key(rng: random.Random) -> str:
    # https://www.rfc-editor.org/rfc/rfc7468
    label = rng.choice(("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"))
    lines = "\n".join(_draw(rng, _BASE64, 64) for _ in range(rng.randint(3, 24)))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"


def _password(rng: random.Random) -> str:
    # https://pages.nist.gov/800-63-4/sp800-63b.html asks for at least 8 characters
    return _draw(rng, _LETTERS_AND_DIGITS + "!#%*+-=?@^_", rng.randint(9, 20))


def _jwt(rng: random.Random) -> str:
    # https://www.rfc-editor.org/rfc/rfc7519
    header = {"alg": rng.choice(("HS256", "RS256")), "typ": "JWT"}
    claims = {"sub": str(rng.randrange(10**9)), "iat": rng.randrange(10**9, 2 * 10**9)}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (header, claims)]
    signature = _draw(rng, _BASE64_URL, 43)
    return ".".join([*(part.decode().rstrip("=") for part in parts), signature])


def _connection_string(rng: random.Random) -> str:
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    # https://www.mongodb.com/docs/manual/reference/connection-string/
    scheme = rng.choice(("postgresql", "postgres", "mysql", "mongodb+srv", "redis", "amqp"))
    password = _draw(rng, _LETTERS_AND_DIGITS, rng.randint(10, 20))
    return f"{scheme}://app:{password}@db{rng.randint(1, 99)}.corp.internal:5432/orders"


_MAKERS: Mapping[str, Callable[[random.Random], str]] = {
    "aws_key": _aws_key,
    "aws_secret_key": _aws_secret,
    "github_token": _github_token,
    "gitlab_token": _gitlab_token,
    "google_key": _google_key,
    "hugging_face_token": _hugging_face_token,
    "openai_key": _openai_key,
    "anthropic_key": _anthropic_key,
    "slack_token": _slack_token,
    "stripe_key": _stripe_key,
    "private_key": _private_key,
    "password": _password,
    "jwt": _jwt,
    "connection_string": _connection_string,
}
KINDS = tuple(_MAKERS)
_NAMES = {
    "aws_secret_key": ("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "awsSecretKey"),
    "password": ("password", "DB_PASSWORD", "smtpPassword", "passwd"),
    "connection_string": ("DATABASE_URL", "connection", "dsn"),
}
"""Names of variables, for kinds that only their name or their form gives away."""


def secret(kind: str, seed: int) -> str:
    """Return a made-up secret."""
    return _MAKERS[kind](random.Random(f"{kind} {seed}"))


def document(kind: str, seed: int) -> tuple[str, str]:
    """Return a text that holds a secret, and the secret."""
    rng = random.Random(f"document {kind} {seed}")
    value = secret(kind, seed)
    name = rng.choice(_NAMES.get(kind, ("token", "API_KEY", "credentials", "x")))
    places = [
        f'import os\n\n{name} = "{value}"\nprint(os.getcwd())\n',
        f"# settings\nREGION=eu-west-1\n{name}={value}\nDEBUG=false\n",
        f"service:\n  {name}: {value}\n  retries: 3\n",
        json.dumps({"name": "orders", name: value, "timeout": 30}),
        f"Bitte nicht weitergeben – für das Konto gilt: {name} = '{value}' (für März).",
    ]
    if kind not in _NAMES:
        places.append(f"My request fails with 401. I send {value} with each call, what is wrong?")
    if kind == "private_key":
        places = [f"Here is the file:\n{value}\n", json.dumps({"key": value})]
    return rng.choice(places), value
