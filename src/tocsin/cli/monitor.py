"""`tocsin monitor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

import click
import msgspec

from tocsin import calibration_file
from tocsin.cli import options
from tocsin.cli.show import finite
from tocsin.cli.terminal import json_bytes
from tocsin.errors import InputError, TocsinError
from tocsin.limits import LINE_BYTES_MAX, OPEN_SESSIONS_MAX
from tocsin.model import Decision, Risk
from tocsin.monitor import Monitor, Session


class Line(msgspec.Struct, kw_only=True):
    """One line of input.

    Args:
        trajectory_id: which response.
        score: of the prefix up to this step; null where the verifier gave none; left out on a
            line that only ends the response.
        end: the response is complete.
        segment: on the first line of a response, the segment that it belongs to.
    """

    trajectory_id: str | int
    score: float | msgspec.UnsetType | None = msgspec.UNSET
    end: bool = False
    segment: str | None = None


Sessions = dict[str | int, tuple[Session, str | None]]
"""Open responses, each with the segment that it began in."""


@click.command("monitor", short_help="Watch scores and say when to stop.")
@click.argument("calibration")
@click.option("--epsilon", type=float, default=None, help="Which certificate, if several.")
@click.option(
    "--risk",
    type=click.Choice(["false-alarm", "missed-detection"]),
    default=None,
    help="Which certificate, if both risks are controlled; false-alarm keeps both.",
)
@click.option("--verifier", default=None, help="Refuse a calibration for another verifier.")
@click.option("--verifier-version", default=None, help="Refuse another version of it.")
@click.option("--step-definition", default=None, help="Refuse another step definition.")
@click.option("--trust", metavar="KEY.pem", help="Refuse unless signed by this Ed25519 key.")
def command(calibration: str, epsilon: float | None, risk: str | None, verifier: str | None,
            verifier_version: str | None, step_definition: str | None,
            trust: str | None) -> None:  # fmt: skip
    """Watch scores: JSON lines in, a decision a line out, as they come.

    Input: {"trajectory_id": "r1", "score": 0.93}, and "end": true on the last line of a response.
    Responses may be interleaved. A line that cannot be used is answered with an "error", changes
    nothing else, and makes the exit status 1.
    """
    made = calibration_file.load(calibration, {
        "verifier": verifier,
        "verifier_version": verifier_version,
        "step_definition": step_definition,
    })  # fmt: skip
    if trust is not None:
        from tocsin.risk.signature import verify

        verify(made, options.read_key(trust))
    chosen: Risk | None = None if risk is None else risk.replace("-", "_")  # type: ignore[assignment]
    failed = watch(Monitor(made, epsilon=epsilon, risk=chosen), sys.stdin.buffer, sys.stdout.buffer)
    if failed:
        sys.exit(1)


def watch(monitor: Monitor, source: IO[bytes], sink: IO[bytes]) -> int:
    """Answer every line of `source` on `sink`; return how many could not be used."""
    sessions: Sessions = {}
    failed = 0
    for number, raw in _lines(source):
        name: str | int | None = None
        try:
            line = _parse(raw)
            name = line.trajectory_id
            answers = [
                {"trajectory_id": name, **finite(msgspec.structs.asdict(d))}
                for d in _feed(monitor, sessions, line)
            ]
        except TocsinError as e:
            failed += 1
            answers = [{"trajectory_id": name, "line": number, "error": str(e)}]
        sink.write(b"".join(json_bytes(a) + b"\n" for a in answers))
        sink.flush()
    if sessions:
        click.echo(f"{len(sessions)} response(s) did not end before the input did", err=True)
    return failed


def _lines(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines that are not blank; an overlong one is cut and will not parse."""
    number = 0
    while raw := source.readline(LINE_BYTES_MAX + 1):
        number += 1
        while len(raw) > LINE_BYTES_MAX and not raw.endswith(b"\n"):
            rest = source.readline(LINE_BYTES_MAX)
            if not rest or rest.endswith(b"\n"):
                break
        if raw.strip():
            yield number, raw


def _parse(raw: bytes) -> Line:
    if len(raw) > LINE_BYTES_MAX:
        raise InputError(f"the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(raw, type=Line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"the line cannot be read: {e}") from None


def _feed(monitor: Monitor, sessions: Sessions, line: Line) -> list[Decision]:
    """Give one line to its session; the decisions that follow."""
    if line.score is msgspec.UNSET and not line.end:
        raise InputError("the line has neither a score nor an end")
    if line.trajectory_id not in sessions:
        if len(sessions) >= OPEN_SESSIONS_MAX:
            raise InputError(f"{OPEN_SESSIONS_MAX} responses are open; end some first")
        session, segment = monitor.session(segment=line.segment), line.segment
    else:
        session, segment = sessions[line.trajectory_id]
    if line.segment not in (None, segment):
        raise InputError(
            f"the response began in segment {segment!r} and cannot go on in {line.segment!r}"
        )
    out = []
    if not isinstance(line.score, msgspec.UnsetType):
        out.append(session.step(line.score))
        sessions[line.trajectory_id] = (session, segment)
    if line.end:
        sessions.pop(line.trajectory_id, None)
        out.append(session.close())
    return out
