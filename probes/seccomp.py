"""System calls that a sandboxed program is refused, as a filter for `bwrap --seccomp` (seccomp(2)).

Namespaces and limits cannot hold off two things: memory that belongs to no process, and so to no limit
(System V segments and queues, memory files), and the keys that the kernel keeps for the user. They are
refused as if the kernel did not know them, so that runtimes look for another way.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

from babelscope.core.errors import InputError

# asm/unistd.h: shmget, msgget, memfd_create, memfd_secret, add_key, request_key, keyctl
DENIED = {
    "x86_64": (0xC000003E, (29, 68, 319, 447, 248, 249, 250)),
    "aarch64": (0xC00000B7, (194, 186, 279, 447, 217, 218, 219)),
}
X32 = 0x40000000  # from here on, x86_64 has a second number for every call
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x80000000  # linux/seccomp.h


@cache
def denials() -> bytes:
    """The filter for this machine.

    Raises
    ------
    InputError
        If the numbers of its system calls are not known here.
    """
    machine = platform.machine()
    if machine not in DENIED:
        raise InputError(
            f"the sandbox knows the system calls of {', '.join(DENIED)}; this machine is {machine}"
        )
    architecture, calls = DENIED[machine]
    refusals = [(JUMP_EQUAL, 0, call) for call in calls]
    if machine == "x86_64":
        refusals.append((JUMP_AT_LEAST, 0, X32))
    program = [
        (LOAD, 0, 0, 4),  # of struct seccomp_data: the architecture
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),  # the call
        *((code, len(refusals) - place, 0, k) for place, (code, _, k) in enumerate(refusals)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
