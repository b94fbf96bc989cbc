"""Where events may be sent: hosts that are listed, at addresses that are nobody's inside.

A name is resolved once for each connection, every address that it leads to is looked at, and the
connection goes to the one that was: a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from tocsin.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host."""

METADATA = frozenset(
    ipaddress.ip_address(a) for a in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
"""Where clouds give credentials of the machine; the others are link-local."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):  # noqa: N818 - the name says what is the case
    """A name leads to where nothing is sent."""


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def address_of(host: str, port: int, *, private: bool, resolve: Resolve = resolve) -> str:
    """Give the address to connect to.

    Args:
        host, port: as configured.
        private: whether it may lie within one's own network. Link-local addresses and those of
            clouds' metadata services are refused in any case.
        resolve: asks for addresses.

    Raises:
        AddressRefused: one of its addresses is refused.
        OSError: it has none.

    Example:
        >>> address_of("hooks.example", 443, private=False, resolve=lambda *_: ["93.184.216.34"])
        '93.184.216.34'
    """
    found = list(resolve(host, port))
    if not found:
        raise AddressRefused("the host has no address")
    for address in found:
        if not _fit(address, private=private):
            raise AddressRefused("the host leads to an address that nothing is sent to")
    return found[0]


def check_host(host: str, allowed: Sequence[str]) -> None:
    """See that a host is listed.

    Args:
        host: of the URL.
        allowed: names, or ``*.`` and a name for all below it.

    Raises:
        InputError: it is not.

    Example:
        >>> check_host("a.hooks.example", ["*.hooks.example"])
    """
    name = host.rstrip(".").lower()
    for one in allowed:
        wanted = one.rstrip(".").lower()
        if name == wanted or (wanted.startswith("*.") and name.endswith(wanted[1:])):
            return
    raise InputError(f"{host!r} is not among the hosts that events may be sent to: name it there")


def inner(address: Address) -> Address:
    """Give the IPv4 address that an IPv6 address leads to, where it does.

    Example:
        >>> str(inner(ipaddress.ip_address("64:ff9b::a9fe:a9fe")))
        '169.254.169.254'
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _fit(text: str, *, private: bool) -> bool:
    try:
        address = inner(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address in METADATA:
        return False
    return private or (address.is_global and not address.is_reserved)
