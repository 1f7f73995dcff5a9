"""Sandbox of a process: a seccomp filter, resource limits and no capabilities.

`enter_sandbox` needs no privilege and cannot be undone. From then on the kernel refuses sockets,
new programs, processes and threads, signals, and every change to a file. The process can still read
the files that its user may read, but it has no channel to send them anywhere.

The filter is a classic BPF program over `struct seccomp_data`: the system call number is at offset
0, the architecture at 4, and the arguments start at 16, with 8 bytes each
(https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers from the kernel's system call tables (arch/x86/entry/syscalls, include/uapi/asm-generic).
# They differ between architectures, and a number that is missing here is allowed.
_DENIED = {
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
"""System calls that open a file, and the index of their flags argument."""
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Opcodes: BPF_LD|BPF_W|BPF_ABS, BPF_JMP with JEQ, JGE and JSET, BPF_RET.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _DENY = 0x7FFF0000, 0x80000000, 0x00050000 | 1  # SECCOMP_RET_ERRNO, EPERM
_X32 = 0x40000000
"""Bit that marks x32 calls on x86_64."""
# Arguments of prctl and capset (linux/prctl.h, linux/seccomp.h, linux/capability.h).
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _Filter(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.c_void_p)]


def build_filter(machine: str) -> list[tuple[int, int, int, int]]:
    """Return the BPF program: opcode, jump if true, jump if false, constant.

    Args:
        machine: Architecture, as `platform.machine` names it.
    """
    program = [
        # A call through the ABI of another architecture (32-bit on x86_64) has other numbers, so
        # that the checks below would not apply to it. The same holds for the x32 ABI.
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for calls in _DENIED[machine].values():
        for number in calls:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DENY)]
    # Opening a file is allowed unless its flags permit writing.
    for number, argument in _OPEN[machine].items():
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_ANY_BIT, 0, 1, _WRITE_FLAGS),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def enter_sandbox(cpu_s: int, memory_bytes: int, *, readable: bool = True) -> None:
    """Restrict this process irreversibly.

    Args:
        cpu_s: CPU time limit in seconds.
        memory_bytes: Limit of the address space.
        readable: False hides the memory of this process from other processes of its user.

    Raises:
        OSError: The kernel does not support seccomp filters.
    """
    machine = platform.machine()
    for kind, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (limit, limit))
    instructions = build_filter(machine)
    array = (_Filter * len(instructions))(*(_Filter(*one) for one in instructions))
    program = _Program(len(instructions), ctypes.cast(array, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if not readable:
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Without capabilities, even root cannot trace or read the memory of another process that has
    # some (ptrace access check), such as the trainer.
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    # The kernel accepts a filter from an unprivileged process only after no_new_privs is set.
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel does not support seccomp filters")
