"""Why a request gets an error instead of an answer: a value, put into the API's own words."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from tocsin.gateway.meters import Outcome
from tocsin.policy.failures import MEANING, Failure
from tocsin.stream.codec import STATUS, Codec, ErrorKind

NO_HEADERS: Mapping[str, str] = {}

_json = msgspec.json.Encoder().encode


class Refuse(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a request that gets no answer.

    Args:
        kind: what the API calls it, and its status.
        message: for the client, in our words; nothing of the generator's is in it.
        outcome: as which it is counted.
        param: the field of the request that is wrong.
        status: where it is another than the kind's own.
        headers: sent along.
        closes: the connection is closed: some of the request was not read.
    """

    kind: ErrorKind
    message: str
    outcome: Outcome = "bad_request"
    param: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = NO_HEADERS
    closes: bool = False

    def response(self, codec: Codec, headers: Mapping[str, str] = NO_HEADERS) -> web.Response:
        """Put it into an API's own form."""
        response = web.Response(
            status=self.status or STATUS[self.kind],
            body=_json(codec.error(self.kind, self.message, self.param)),
            headers={"content-type": "application/json", **headers, **self.headers},
        )
        if self.closes:
            response.force_close()
        return response


def failed(failure: Failure) -> Refuse:
    """Say that a part failed before anything was shown: 504 where the upstream was too slow, 502
    where it failed, 503 where a part of ours did.

    Example:
        >>> failed("verifier_timeout").kind, failed("upstream_cut_off").kind
        ('unavailable', 'upstream')
    """  # noqa: D205 - one sentence
    upstream = failure.startswith("upstream_")
    kind: ErrorKind = "unavailable"
    if upstream:
        kind = "timeout" if failure == "upstream_stalled" else "upstream"
    return Refuse(
        kind=kind,
        message=f"{MEANING[failure]} ({failure})",
        outcome="upstream_failed" if upstream else "failed",
    )
