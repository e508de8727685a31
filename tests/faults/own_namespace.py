"""The network namespace that `scripts/faults` runs in where the kernel lets it: a loopback of its own, not up yet.

Owns nothing else. Without privilege, or in the machine's own namespace, there is nothing to do.
"""

import contextlib
import fcntl
import socket
import struct

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
REQUEST = struct.Struct("16sh14x")


def bring_loopback_up() -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _flags(any_socket, "lo")
        if not flags & IFF_UP:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, REQUEST.pack(b"lo", flags | IFF_UP))


def connected() -> list[str]:
    """Devices that lead somewhere else; what kernels put into every new namespace is down, but for the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        names = sorted(name for _, name in socket.if_nameindex() if name != "lo")
        return [name for name in names if _flags(any_socket, name) & IFF_UP]


def _flags(any_socket: socket.socket, device: str) -> int:
    flags: int = REQUEST.unpack(fcntl.ioctl(any_socket, SIOCGIFFLAGS, REQUEST.pack(device.encode(), 0)))[1]
    return flags
