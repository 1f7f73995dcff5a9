"""Patterns of secrets whose format the provider documents, one per kind."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BASE64_URL = r"[A-Za-z0-9_\-]"
_END = r"(?![A-Za-z0-9_\-])"
_START = r"(?<![A-Za-z0-9_\-])"
_AWS_SECRET = r"(?P<value>(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=]))"
_ASSIGNED = r"""["']?[ \t]{0,8}(?::=|=>|=|:)[ \t]{0,8}"""


@dataclass(frozen=True)
class SecretPattern:
    """Pattern of one kind of secret.

    Attributes:
        kind: Kind, as findings name it.
        anchors: Lower-case texts, one of which is in every text that matches.
        pattern: Pattern; its group `value` is the secret, or all of it if it has no such group.
    """

    kind: str
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]


def _pattern(kind: str, anchors: tuple[str, ...], *expressions: str) -> SecretPattern:
    return SecretPattern(kind, anchors, re.compile("".join(expressions)))


PATTERNS = (
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    _pattern("aws_key", ("akia", "asia"), _START, r"(?:AKIA|ASIA)[A-Z2-7]{16}", _END),
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html
    _pattern(
        "aws_secret_key",
        ("secret",),
        r"(?i:secret_?-?(?:access)?_?-?key)",
        _ASSIGNED,
        r"""["']?""",
        _AWS_SECRET,
    ),
    _pattern(
        "aws_secret_key",
        ("akia", "asia"),
        r"(?:AKIA|ASIA)[A-Z2-7]{16}[^A-Za-z0-9/+][^\n]{0,40}?\n?[^\n]{0,40}?",
        _AWS_SECRET,
    ),
    # https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
    _pattern(
        "github_token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,251}",
        r"|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})(?![A-Za-z0-9])",
    ),
    # https://docs.gitlab.com/security/tokens/#token-prefixes
    _pattern(
        "gitlab_token",
        ("gl",),
        _START,
        r"(?:gl(?:pat|dt|rt|rtr|ptt|ft|soat|agent|cbt|imt|ffct|oas)-",
        _BASE64_URL,
        r"{20,128}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?)",
    ),
    # https://docs.cloud.google.com/docs/authentication/api-keys
    _pattern("google_key", ("aiza",), _START, r"AIza", _BASE64_URL, r"{35}", _END),
    # https://huggingface.co/docs/hub/security-tokens
    _pattern("hugging_face_token", ("hf_",), _START, r"hf_[A-Za-z]{34}", _END),
    # https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns
    _pattern(
        "openai_key",
        ("t3blbkfj",),
        _START,
        r"sk-(?:[a-z]{2,12}-)?",
        _BASE64_URL,
        r"{20,120}T3BlbkFJ",
        _BASE64_URL,
        r"{20,120}",
    ),
    _pattern(
        "anthropic_key",
        ("sk-ant-",),
        _START,
        r"sk-ant-[a-z]{2,10}[0-9]{2}-",
        _BASE64_URL,
        r"{80,120}",
        _END,
    ),
    # https://docs.slack.dev/authentication/tokens
    _pattern(
        "slack_token",
        ("xox", "xapp-", "hooks.slack.com"),
        r"(?<![A-Za-z0-9])(?:xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9\-]{20,250}",
        r"|xapp-[0-9]-[A-Z0-9]{8,14}-[0-9]{8,16}-[A-Za-z0-9]{32,128}",
        r"|https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{30,100})",
    ),
    # https://docs.stripe.com/keys
    _pattern("stripe_key", ("k_live_",), _START, r"[sr]k_live_[A-Za-z0-9]{16,247}", _END),
    # https://www.rfc-editor.org/rfc/rfc7468
    _pattern(
        "private_key",
        ("private key",),
        r"-----BEGIN (?P<label>(?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY)(?: BLOCK)?-----",
        r"[\w+/=:,\-.\s\\]{64,16384}?-----END (?P=label)(?: BLOCK)?-----",
    ),
    # https://www.rfc-editor.org/rfc/rfc7519
    _pattern(
        "jwt",
        ("eyj",),
        _START,
        r"eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{8,8000}\.[A-Za-z0-9_\-]{20,1500}",
    ),
    # https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1
    _pattern(
        "connection_string",
        ("://",),
        r"(?<![A-Za-z0-9])[a-z][a-z0-9+.\-]{1,20}://[^\s:/@\"'<>\[\]{}$]{0,64}:",
        r"(?![{$<*%\[])[^\s:/@\"'<>{}]{8,128}@[^\s\"'<>]{3,256}",
    ),
    # https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string
    _pattern(
        "connection_string",
        ("accountkey=", "sharedaccesskey="),
        r"(?i:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{43,86}={1,2}",
    ),
    # A password has a letter and a digit or sign. Placeholders (`${NAME}`, `<name>`, `%s`, `***`)
    # are not one, nor is anything that looks like code where no quotation marks end it.
    _pattern(
        "password",
        ("passw", "passphrase", "pwd"),
        r"(?i:passw(?:or)?d|passphrase|pwd)",
        _ASSIGNED,
        r"(?:(?P<quote>[\"'])(?!%[a-z(]|\*{3}|\$[\w{(]|[<{])",
        r"(?=[^\"'\n]{0,64}[A-Za-z])(?=[^\"'\n]{0,64}[0-9!#%+=?@^~$&*_])",
        r"(?P<value>[^\"'\s]{8,64})(?P=quote)",
        r"|(?=[^\s]{0,64}[A-Za-z])(?=[^\s]{0,64}[0-9])(?!%[a-z(]|\*{3}|\$[\w{(])",
        r"(?P<bare>[^\s\"'<>{}()\[\].,;]{8,64})(?=\s|[,;]|$))",
    ),
)
KINDS = tuple(dict.fromkeys(pattern.kind for pattern in PATTERNS))


def is_example(value: str) -> bool:
    """Return True for values that documentation uses, such as `AKIAIOSFODNN7EXAMPLE`."""
    return value.endswith(("EXAMPLE", "EXAMPLEKEY")) or len(set(value)) < 5
