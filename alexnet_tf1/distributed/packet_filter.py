"""Keeps TensorFlow's server to the address it was given; by itself it listens on all of them."""

import contextlib
import ctypes
import ipaddress
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator

_SO_ATTACH_FILTER = 26
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: loads count from the IP header
_LOAD_WORD, _LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
_ALL, _NOTHING = 0xFFFFFFFF, 0  # of a packet, to let through

# tf.train.Server binds to every address of the machine whatever TF_CONFIG says, and has no option
# for it (2.21). A socket filter is the one thing that a process without rights can add to a socket
# that is not its own to make: the kernel then drops what was sent to another address.


def restrict(address: str) -> bool:
    """Lets in only what is sent to HOST:PORT, on every socket of this process that listens there.

    Returns:
      Whether it was done: on Linux, where HOST is an IP address of this machine. A name may stand
      for other addresses elsewhere, so it restricts nothing.
    """
    host, _, port = address.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        with socket.socket(family) as probe:
            probe.bind((str(ip), 0))  # fails for an address of another machine, or of a gateway
    except (ValueError, OSError):
        return False
    if not sys.platform.startswith("linux"):
        return False
    program = _only_to(ip)
    memory = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
    done = False
    for listening in _listening_at(int(port)):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
        done = True
    return done


def _only_to(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """A program of the kernel's packet filter that passes packets to one address."""
    words = struct.unpack(f">{len(ip.packed) // 4}I", ip.packed)
    first = 16 if ip.version == 4 else 24  # where the destination is in the header
    steps = 3 + 2 * len(words)
    program = [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_AND, 0, 0, 0xF0),
        (_JUMP_IF_EQUAL, 0, steps - 3 + 1, ip.version << 4),
    ]
    for number, word in enumerate(words):
        program.append((_LOAD_WORD, 0, 0, _NETWORK_HEADER + first + 4 * number))
        program.append((_JUMP_IF_EQUAL, 0, steps - len(program), word))
    program += [(_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, _NOTHING)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _listening_at(port: int) -> Iterator[socket.socket]:
    """This process's sockets that listen at a port."""
    for name in os.listdir("/proc/self/fd"):
        # A copy, so that closing it here does not close the server's; of sockets only, as nothing
        # would close the copy of another file.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and one.getsockname()[1] == port:
                yield one
