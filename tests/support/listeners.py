"""A machine whose name resolves to an address that is not loopback, for one thread; and who listens on it.

Linux has namespaces by thread. What the thread starts (threads, processes) is in them too, the rest of this process is
not. Needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

ADDRESS = "10.77.0.1"
"""Only in the namespace, on its own loopback device."""
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8913, 0x8914, 1
LISTEN = "0A"


def move_to_another_machine(folder: Path) -> None:
    """Give this thread a network and mounts of its own, in which the host's name resolves to `ADDRESS`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for device, address in (("lo", "127.0.0.1"), ("lo:1", ADDRESS)):
            request = struct.pack("16sH2s4s8x", device.encode(), socket.AF_INET, b"", socket.inet_aton(address))
            fcntl.ioctl(control, SIOCSIFADDR, request)
        flags = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (before,) = struct.unpack_from("H", flags, 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", before | IFF_UP))
    folder.mkdir(parents=True, exist_ok=True)
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {socket.gethostname()}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    assert socket.gethostbyname(socket.gethostname()) == ADDRESS


def listening(pid: int) -> list[IPv4Address | IPv6Address]:
    """Addresses of all listening TCP sockets in the network of a process, its own and others'."""
    found: list[IPv4Address | IPv6Address] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == LISTEN:
                words = bytes.fromhex(local.partition(":")[0])
                address = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                found.append(IPv6Address(address) if len(address) == 16 else IPv4Address(address))
    return found


def may_move() -> bool:
    """Whether this process may have namespaces of its own."""
    return os.geteuid() == 0
