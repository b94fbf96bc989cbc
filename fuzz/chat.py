"""The codec of chat: the laws that all codecs keep."""

from __future__ import annotations

from fuzz.codecs import target

one = target("chat")
