"""OpenAI chat completions, the usual chunk: all but its text is as in the chunk before.

Servers repeat an identifier, a model and a dozen names around each token. Where bytes are those of
a chunk that was read in full, up to one JSON string and from its end on, reading that string says
all that reading the chunk would say.
"""

from __future__ import annotations

import msgspec

from tocsin.limits import SSE_EVENT_BYTES_MAX
from tocsin.stream.chat_form import Chunk, ChunkChoice, Said, decode_chunk

_encode = msgspec.json.Encoder().encode
_string = msgspec.json.Decoder(str).decode

_KEYS = (b'"content":', b'"content": ')
_PROBE = "another text"
_BEGINS, _ENDS = b"data: ", b"\n\n"


class Template:
    """What stands around the text of a chunk, as a whole server-sent event.

    Args:
        prefix: up to and with the quotation mark before the text.
        suffix: from the quotation mark behind it on.
        choice: whose text it is.

    Attributes:
        used: whether another chunk was like it.
    """

    __slots__ = ("_from", "_least", "_prefix", "_suffix", "_upto", "choice", "used")

    def __init__(self, prefix: bytes, suffix: bytes, choice: int) -> None:
        self._prefix = prefix
        self._suffix = suffix
        self._from = len(prefix) - 1
        self._upto = 1 - len(suffix)
        self._least = len(prefix) + len(suffix)
        self.choice = choice
        self.used = False

    def text(self, data: bytes) -> str | None:
        """Give the text of a chunk that is like it; None where it is not."""
        if not (
            data.startswith(self._prefix)
            and data.endswith(self._suffix)
            and self._least <= len(data) <= SSE_EVENT_BYTES_MAX
        ):
            return None
        try:
            text = _string(data[self._from : self._upto])
        except (ValueError, msgspec.DecodeError):  # more than a string, or half a character in it
            return None
        self.used = True
        return text


def template_of(payload: bytes) -> Template | None:
    r"""Make a template of the data of an event; None where it says more than one text.

    Example:
        >>> said = b'{"id":"1","choices":[{"index":0,"delta":{"content":"%b"}}]}'
        >>> made = template_of(said % b"one")
        >>> made.text(b"data: " + said % rb"a\nb" + b"\n\n")
        'a\nb'
        >>> made.text(b"data: " + said % b'","role":"' + b"\n\n") is None
        True
    """
    try:
        chunk = decode_chunk(payload)
        choice, said = _only_text(chunk)
        if said is None or choice is None or said.content is None:
            return None
        quoted = _encode(said.content)
        at = max(payload.rfind(key + quoted) + len(key) for key in _KEYS if key + quoted in payload)
        prefix, suffix = payload[: at + 1], payload[at + len(quoted) - 1 :]
        # The same name may stand elsewhere too: see whether this is the one that counts.
        probe = decode_chunk(prefix + _PROBE.encode() + suffix)
        said.content = _PROBE
    except (ValueError, RecursionError):
        return None
    if probe != chunk:
        return None
    return Template(_BEGINS + prefix, suffix + _ENDS, choice.index)


def _only_text(chunk: Chunk) -> tuple[ChunkChoice | None, Said | None]:
    """Give the choice that has more text, and nothing else."""
    choices = chunk.choices
    if not choices or len(choices) > 1 or chunk.error or chunk.object == "error":
        return None, None
    choice = choices[0]
    said = choice.delta
    if said is None or isinstance(chunk.usage, dict) or choice.finish_reason or choice.logprobs:
        return None, None
    if not said.content or said.refusal or said.reasoning_content or said.reasoning:
        return None, None
    return (None, None) if said.tool_calls or said.function_call else (choice, said)
