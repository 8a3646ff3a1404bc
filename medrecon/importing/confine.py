"""Take away what a reader of files does not need: network, programs, writing, memory, time.

Standard library only. Limits hold where the system has them; the filter of system calls on Linux
with x86-64 or ARM processors; Python's audit hooks everywhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

_GIB = 2**30
_SECONDS = 120
_BYTES_PER_SECOND = 20e6

_EVENTS = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.link",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.spawn",
    "os.symlink",
    "os.system",
    "os.truncate",
    "pty.",
    "ctypes.",
    "urllib.",
)

# Linux system calls (linux/audit.h, asm/unistd.h). The first list is refused, the second, with the
# place of its flags among the arguments, where it would write.
_CALLS = {
    "x86_64": (
        0xC000003E,
        # socket connect socketpair clone fork vfork execve kill truncate rename mkdir rmdir creat
        # link unlink symlink chmod chown ptrace mknod mount mkdirat mknodat fchownat unlinkat
        # renameat linkat symlinkat fchmodat process_vm_writev renameat2 bpf execveat
        # io_uring_setup clone3 openat2
        "41 42 53 56 57 58 59 62 76 82 83 84 85 86 87 88 90 92 101 133 165 258 259 260 263 264 "
        "265 266 268 311 316 321 322 425 435 437",
        {2: 1, 257: 2},  # open, openat
    ),
    "aarch64": (
        0xC00000B7,
        # mknodat mkdirat unlinkat symlinkat linkat renameat mount truncate fchmodat fchownat
        # ptrace kill socket socketpair connect clone execve process_vm_writev renameat2 bpf
        # execveat io_uring_setup clone3 openat2
        "33 34 35 36 37 38 40 45 53 54 117 129 198 199 203 220 221 271 276 280 281 425 435 437",
        {56: 2},  # openat
    ),
}
_X32 = 0x40000000
"""First call number of a second table of the same calls on x86-64."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


def confine(size: int) -> None:
    """Confine this process for good.

    Parameters
    ----------
    size
        Bytes of the file it is going to read; memory and time follow from it.
    """
    _limit(size)
    _filter_calls()
    sys.addaudithook(_refuse)  # last, as the others are events themselves


def _limit(size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        resource.RLIMIT_CPU: _SECONDS + int(size / _BYTES_PER_SECOND),
        resource.RLIMIT_FSIZE: 4 * size + _GIB,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":  # elsewhere the address space has no limit that holds
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * os.sysconf("SC_PAGESIZE") + 4 * size + _GIB
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what the filter refuses, on systems that have none."""
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    opening = event == "open" and isinstance(arguments[2], int) and arguments[2] & writes
    if opening or event.startswith(_EVENTS):
        raise PermissionError(f"{event} is refused")


def _filter_calls() -> bool:
    """Let Linux refuse calls (seccomp); whether it could."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    steps = _programme(platform.machine())
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code)
    head = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(steps), _address(buffer)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    prctl.restype = ctypes.c_int
    if prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    return bool(prctl(_SECCOMP, _FILTER, _address(head), 0, 0) == 0)


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _programme(machine: str) -> list[tuple[int, int, int, int]]:
    """List the filter's steps: (what, steps to skip if so, steps to skip if not, number).

    The call's number lies at byte 0 of what it sees, the architecture at 4, arguments from 16 on.
    """
    architecture, refused, opening = _CALLS[machine]
    refuse, allow = (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for number in map(int, refused.split()):
        steps += [(_EQUAL, 0, 1, number), refuse]
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for number, place in opening.items():
        steps += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * place)]
        steps += [(_ANY_BIT, 0, 1, writes), refuse, allow]
    return [*steps, allow]
