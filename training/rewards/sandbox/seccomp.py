"""A way for a process to give up everything that a test of a function does not need.

What the kernel refuses it from the moment it is locked in (seccomp, without any privilege):
sockets, other programs, processes and threads, signals, and every way of changing a file. Memory
and time are limited besides, and capabilities dropped. It can still read files that its user may
read; it has no way to send them anywhere.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# As in the kernel's tables of system calls.
_REFUSED = {
    "x86_64": {
        "network": (41, 42, 43, 44, 46, 49, 50, 53, 288, 307, 425),
        "programs and processes": (56, 57, 58, 59, 322, 435, 101, 109, 112, 157, 272, 308, 310, 311,
                                   312, 438),
        "signals": (62, 129, 200, 234, 297, 424, 434),
        "files": (76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 188, 189, 235,
                  258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 285, 316, 319, 437, 452),
        "the machine": (155, 161, 165, 166, 167, 168, 169, 175, 246, 248, 249, 250, 298, 313, 321,
                        323),
    },
    "aarch64": {
        "network": (198, 199, 200, 201, 202, 203, 206, 211, 242, 269, 425),
        "programs and processes": (97, 117, 154, 157, 167, 220, 221, 268, 270, 271, 272, 281, 435,
                                   438),
        "signals": (129, 130, 131, 138, 240, 424, 434),
        "files": (5, 6, 33, 34, 35, 36, 37, 38, 45, 46, 47, 52, 53, 54, 55, 88, 276, 279, 437, 452),
        "the machine": (39, 40, 41, 51, 104, 105, 106, 142, 217, 218, 219, 224, 225, 241, 273, 280,
                        282),
    },
}  # fmt: skip
_OPEN = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}
"""Calls that open a file, and which of their arguments says what for."""
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 1  # EPERM
_X32 = 0x40000000


class _Filter(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.c_void_p)]


def rules(machine: str) -> list[tuple[int, int, int, int]]:
    """Return the filter as the kernel reads it: code, jumps when true and false, constant."""
    found = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for calls in _REFUSED[machine].values():
        for number in calls:
            found += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number, argument in _OPEN[machine].items():
        found += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_ANY_BIT, 0, 1, _TO_WRITE),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [*found, (_RETURN, 0, 0, _ALLOW)]


def lock_in(cpu_s: int, memory_bytes: int, *, readable: bool = True) -> None:
    """Give up everything that a test of a function does not need; there is no way back.

    Args:
        cpu_s: Seconds that may be computed.
        memory_bytes: Most memory there may be.
        readable: Whether other processes of this user may read its memory.
    """
    machine = platform.machine()
    for what, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (limit, limit))
    listed = rules(machine)
    array = (_Filter * len(listed))(*(_Filter(*one) for one in listed))
    program = _Program(len(listed), ctypes.cast(array, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if not readable:
        libc.prctl(4, 0, 0, 0, 0)
    # Root without them may look into no process that has some.
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel would not filter system calls")
