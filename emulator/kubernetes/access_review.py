"""Access reviews as kubectl sends them: Kubernetes' own types travel as Protocol Buffers.

https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding; field numbers as in
`k8s.io/apimachinery/pkg/runtime/generated.proto` and `k8s.io/api/authorization/v1/generated.proto`.
"""

from __future__ import annotations

import json

_MAGIC = b"k8s\x00"
_RAW, _SPEC, _RESOURCE_ATTRIBUTES, _VERB = 2, 2, 1, 2
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}


def reviewed_verb(body: bytes) -> str:
    """Return the verb that a `SelfSubjectAccessReview` asks about.

    Args:
        body: Body of the request, in Protocol Buffers or JSON.
    """
    if not body.startswith(_MAGIC):
        return str(json.loads(body)["spec"]["resourceAttributes"]["verb"])
    message = body[len(_MAGIC) :]
    for field in (_RAW, _SPEC, _RESOURCE_ATTRIBUTES, _VERB):
        message = _fields(message).get(field, b"")
    return message.decode()


def _fields(message: bytes) -> dict[int, bytes]:
    """Return the length-delimited fields of a message by number.

    https://protobuf.dev/programming-guides/encoding/
    """
    found, position = {}, 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _LENGTH_DELIMITED:
            length, position = _varint(message, position)
            found[number] = message[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _varint(message, position)
        else:
            position += _FIXED_BYTES[kind]
    return found


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position
