"""Sockets to listen on, and how many connections the process may have."""

from __future__ import annotations

import resource
import socket

from tocsin.errors import InputError
from tocsin.limits import CONNECTIONS_MAX, DESCRIPTORS_RESERVED


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a socket that does not listen yet.

    Args:
        host, port: where; port 0 lets the system pick one.
        shared: other processes of the same user may bind to the same port; connections are then
            spread over those that listen.

    Raises:
        InputError: the address is not this machine's, or taken.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
    except OSError as e:
        raise InputError(f"cannot listen on {host} port {port}: {e.strerror}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.settimeout(0)
    except OSError as e:
        made.close()
        raise InputError(f"cannot listen on {host} port {port}: {e.strerror}") from None
    return made


def reserved(host: str, port: int) -> socket.socket:
    """Take a port for workers to share, and keep it: the socket never listens.

    A port that another program listens on is an error, also where it would let us share.

    Raises:
        InputError: as `bound` does.
    """
    if port != 0:
        alone = bound(host, port)
        try:
            alone.listen(1)
        except OSError as e:
            raise InputError(f"cannot listen on {host} port {port}: {e.strerror}") from None
        finally:
            alone.close()
    return bound(host, port, shared=True)


def address(made: socket.socket) -> str:
    """Say where a socket is bound, as a URL has it.

    Example:
        >>> with bound("127.0.0.1", 0) as made:
        ...     address(made).startswith("127.0.0.1:")
        True
    """
    host, port = made.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connections_max() -> int:
    """Ask for as many file descriptors as the system gives, and say how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAX + DESCRIPTORS_RESERVED
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, (soft - DESCRIPTORS_RESERVED) // 2))
