"""Where an upstream may be, and where the gateway may listen without keys.

Private and loopback hosts are allowed: only the operator writes the configuration, and models run
there. What is refused is refused for every operator: link-local addresses and the names of clouds'
metadata services, behind which credentials of the machine can be had. A name is not resolved here,
so that one which leads to such an address is not seen.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tocsin.record.addresses import METADATA, Address, inner

_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
)


def url_complaint(url: str) -> str:
    """Say what is wrong with the URL of an upstream; empty where nothing is. It is never repeated.

    Example:
        >>> url_complaint("http://127.0.0.1:8000/v1")
        ''
        >>> url_complaint("ftp://models.example")
        'begin with https:// (or http://) and a host'
    """
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        return "it holds white space, a backslash or characters that are not ASCII"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it is no URL; write it as https://models.example/v1"
    if parts.scheme not in {"http", "https"} or not host:
        return "begin with https:// (or http://) and a host"
    if parts.username is not None or parts.password is not None:
        return "it holds a user or a password; use `key` or `headers` instead"
    if "?" in url or "#" in url or port == 0:
        return "leave out '?' and '#' with what follows them, and port 0"
    return _host_complaint(host)


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached by this name or address.

    Example:
        >>> [is_loopback(h) for h in ("localhost", "127.0.0.2", "::1", "0.0.0.0")]
        [True, True, True, False]
    """
    if host.rstrip(".").lower() == "localhost":
        return True
    address = _address(host)
    # A tunnel's address may hold 127.0.0.1, and yet lead to where its packets are unpacked.
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped is not None and mapped.is_loopback


def host_of(url: str) -> str:
    """Give the host of a URL that `url_complaint` found nothing wrong with."""
    return urlsplit(url).hostname or ""


def _host_complaint(host: str) -> str:
    name = host.rstrip(".").lower()
    if name in _METADATA_NAMES:
        return "this is a cloud's metadata service, not a model"
    address = _address(name)
    if address is None:
        last = name.rpartition(".")[2]
        if last.isdigit() or last.startswith("0x"):
            return "write an IPv4 address as four decimal numbers, without leading zeros"
        return ""
    reached = inner(address)
    if reached.is_link_local or reached in METADATA:
        return "this is a link-local or metadata address, not a model"
    if reached.is_multicast or reached.is_unspecified:
        return "this address names no host"
    return ""


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
