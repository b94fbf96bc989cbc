"""`tocsin serve`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tocsin.errors import MissingExtra
from tocsin.limits import WORKERS_MAX

if TYPE_CHECKING:  # the gateway is loaded where it runs: in this process, or in its workers
    from aiohttp import web

    from tocsin.gateway.door import Door
    from tocsin.gateway.site import Site
    from tocsin.gateway.surroundings import Surroundings

METRICS = "127.0.0.1:9464"
"""Where operators find metrics; the port is the one that OpenTelemetry's exporters use."""


@click.command("serve", short_help="Run the gateway.")
@click.argument("config", required=False)
@click.option("--host", default=None, help="Listen here, whatever the configuration says.")
@click.option("--port", type=click.IntRange(0, 65_535), default=None, help="The same; 0 picks one.")
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    help="Processes on the one port.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    default=METRICS,
    show_default=True,
    help="Where /metrics is, for operators alone; `off` for nowhere.",
)
@click.option("--demo", is_flag=True, help="Show it at work, without a configuration of yours.")
@click.option("--once", is_flag=True, help="With --demo: end when everything was shown.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 1_000.0),
    default=1.0,
    show_default=True,
    help="With --demo: how many times as fast as it was recorded.",
)
def command(config: str | None, host: str | None, port: int | None, workers: int, metrics: str,
            demo: bool, once: bool, speed: float) -> None:  # fmt: skip
    """Run the gateway: requests in, models asked, answers out under guard.

    \b
    tocsin serve gateway.toml --workers 4
    tocsin serve --demo

    The demonstration replays answers of a real small model, or asks it where it is installed
    (tocsin[demo-model]), and rings on one of them.

    SIGHUP reads CONFIG again, and keeps to the old one where the new one is bad. SIGTERM lets open
    answers end; a second one ends them at once, a third one cuts them off. Where a sync of the
    record fails it stops by itself, with status 74. One JSON line for each request goes to
    standard error.
    """  # noqa: D301 - click reads the character that this escape makes
    if demo == (config is not None):
        raise click.UsageError("give either a configuration or --demo")
    where = _where(metrics)
    with _extra():
        if config is None:
            from tocsin.cli.serve_demo import demo as show

            sys.exit(show(0 if port is None else port, once=once, speed=speed))
        from tocsin.gateway.door import Door

        door = Door(host=host, port=port, metrics=where, workers=workers, ready=_announce)
        sys.exit(_one(config, door) if workers == 1 else _several(config, door))


def _one(config: str, door: Door) -> int:
    from tocsin.gateway.server import serve

    return serve(lambda: _load(config, door.host), _make_app, door)


def _several(config: str, door: Door) -> int:
    from tocsin.gateway.config_file import read
    from tocsin.gateway.several import serve_several

    said, _ = read(config)
    return serve_several(
        lambda: _load(config, door.host),
        _make_app,
        door,
        host=said.listen.host if door.host is None else door.host,
        port=said.listen.port if door.port is None else door.port,
        drain_ms=said.limits.drain_ms,
    )


def _load(config: str, host: str | None) -> Site:
    from tocsin.gateway.building import load

    return load(config, host=host)


def _make_app(around: Surroundings) -> web.Application:
    from tocsin.gateway.app import make_app

    return make_app(around)


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Name the extra that brings what is missing."""
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("tocsin"):
            raise
        extra = "postgres" if e.name.startswith("psycopg") else "serve"
        raise MissingExtra(f"the gateway needs {e.name}: pip install 'tocsin[{extra}]'") from None


def _where(metrics: str) -> tuple[str, int] | None:
    if metrics == "off":
        return None
    host, colon, port = metrics.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise click.BadParameter("give HOST:PORT, or off", param_hint="--metrics")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _announce(where: str, operating: str) -> None:
    click.echo(f"listening on http://{where}")
    if operating:
        click.echo(f"metrics on http://{operating}/metrics")
