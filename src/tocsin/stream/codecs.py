"""The codec of each API, loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import cast

from tocsin.stream.codec import Codec
from tocsin.stream.events import APIS, Api


class _Codecs(Mapping[Api, Codec]):
    """Each API's module is named as the API, and holds its `CODEC`."""

    def __getitem__(self, api: Api) -> Codec:
        if api not in APIS:
            raise KeyError(api)
        return cast("Codec", import_module(f"tocsin.stream.{api}").CODEC)

    def __iter__(self) -> Iterator[Api]:
        return iter(APIS)

    def __len__(self) -> int:
        return len(APIS)


CODECS: Mapping[Api, Codec] = _Codecs()
"""By API.

Example:
    >>> CODECS["chat"].api
    'chat'
"""
