"""The codec of responses: the laws that all codecs keep."""

from __future__ import annotations

from fuzz.codecs import target

one = target("responses")
