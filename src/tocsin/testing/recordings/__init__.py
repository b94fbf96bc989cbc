"""Answers of a real model, word by word as they came, to be replayed where no model is.

Each recording is a JSON file beside this module; the README there says where they come from.

Example:
    >>> recording = load("sky")
    >>> recording.prompt
    'Why is the sky blue?'
    >>> recording.pieces[:4]
    ('The', ' sky', ' appears', ' blue')
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tocsin.errors import InputError
from tocsin.testing.fake_model import Choice, Exchange, Reply

_FOLDER = Path(__file__).resolve().parent


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model.

    Args:
        name: of the file, without its ending.
        prompt: what the user said; there was no other message.
        model: which one answered.
        sampling: how its words were drawn.
        finish: why it ended, in the words of chat completions.
        pieces: its tokens' texts, in order; they join to the answer.
        delays_ms: the wait before each piece, in ms; the first holds the reading of the prompt.
    """

    name: str
    prompt: str
    model: str
    sampling: dict[str, float]
    finish: str
    pieces: tuple[str, ...]
    delays_ms: tuple[float, ...]

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    def reply(self, speed: float = 1.0) -> Reply:
        """Give the answer for a fake model to replay.

        Args:
            speed: how many times as fast as it was; `math.inf` for no pauses.

        Raises:
            InputError: the speed is not above 0.
        """
        if not speed > 0.0:
            raise InputError(f"speed {speed} is not above 0")
        return Reply(
            choices=(Choice(text=self.pieces, finish=self.finish),),
            pause_ms=tuple(delay_ms / speed for delay_ms in self.delays_ms),
        )


def names() -> tuple[str, ...]:
    """Name the recordings that come with the package.

    Example:
        >>> "sky" in names()
        True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load(name: str) -> Recording:
    """Read a recording that comes with the package.

    Raises:
        InputError: there is none of this name.
    """
    if name not in names():
        raise InputError(f"no recording {name!r}; there are {', '.join(names())}")
    return read(_FOLDER / f"{name}.json")


def read(path: str | Path) -> Recording:
    """Read a recording of your own.

    Raises:
        InputError: the file cannot be read, or is no recording.
    """
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=Recording)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path}: no recording: {error}") from None
    if len(found.pieces) != len(found.delays_ms):
        raise InputError(
            f"{path}: {len(found.pieces)} pieces and {len(found.delays_ms)} delays; "
            "each piece needs one"
        )
    return found


def replayed(*recordings: Recording, speed: float = 1.0) -> Callable[[Exchange], Reply]:
    """Give a rule for a fake model: what was recorded for a prompt is said again.

    To a prompt that was never recorded it answers with those that were.

    Args:
        recordings: all that come with the package where none are given.
        speed: as in `Recording.reply`.

    Example:
        >>> from tocsin.testing.fake_model import FakeModel
        >>> with FakeModel(replayed(load("sky"), speed=100.0)) as fake:
        ...     fake.url[:17]
        'http://127.0.0.1:'
    """
    known = recordings or tuple(map(load, names()))
    replies = {one.prompt: one.reply(speed) for one in known}
    told = "I only know what was recorded. Ask one of these:\n" + "\n".join(replies)
    other = Reply(choices=(Choice(text=told),))

    def rule(exchange: Exchange) -> Reply:
        return replies.get(_prompt(exchange.body), other)

    return rule


def _prompt(body: Any) -> str:
    """Find what the user said last, on any of the three APIs."""
    body = body if isinstance(body, dict) else {}
    found = body.get("input", body.get("messages"))
    if isinstance(found, list):
        said = [one for one in found if isinstance(one, dict) and one.get("role") == "user"]
        found = said[-1].get("content") if said else ""
    if isinstance(found, list):
        texts = [part.get("text") for part in found if isinstance(part, dict)]
        found = "".join(text for text in texts if isinstance(text, str))
    return found.strip() if isinstance(found, str) else ""
