"""From what a file says of the record to where it is; nothing is opened, and nothing made."""

from __future__ import annotations

import os
from pathlib import Path

from tocsin.errors import TocsinError
from tocsin.gateway.config import Config
from tocsin.gateway.config_file import Source
from tocsin.gateway.site import RecordPlan
from tocsin.gateway.yaml_text import Place
from tocsin.verifiers.patterns import Rule, rules

_DAY_US = 86_400_000_000
_SERVERS = ("postgresql", "postgres")


def record_plan(config: Config, source: Source) -> RecordPlan | None:
    """Say where the record is; None where there is none, or where it cannot be.

    Args:
        config: the whole file.
        source: where complaints go; files are found beside it.
    """
    record = config.record
    if record is None:
        for name, policy in config.policies.items():
            for key in ("sample", "evidence"):
                if getattr(policy, key):
                    source.complain(
                        ("policies", name, key),
                        "raw content is kept in the record, and there is no record here",
                    )
        return None
    keys = source.folder / record.keys
    _check_folder(keys, ("record", "keys"), source, makes=True)
    return RecordPlan(
        store=_store(record.store, source),
        keys=keys,
        log=record.log,
        redaction=_rules(record.redaction, source),
        period_s=record.period_s,
        content_us=int(record.content_days * _DAY_US),
    )


def _store(store: str, source: Source) -> str:
    """Put a file beside the configuration; the URL of a server stays as it is."""
    place: Place = ("record", "store")
    scheme, colon, rest = store.partition("://")
    if colon and scheme in _SERVERS:
        return store
    if colon and scheme != "sqlite":
        source.complain(place, "write the path of a file, or a URL that begins with postgresql://")
        return store
    path = source.folder / (rest.removeprefix("/") if colon else store)
    _check_folder(path.parent, place, source)
    return str(path)


def _check_folder(folder: Path, place: Place, source: Source, *, makes: bool = False) -> None:
    """Complain where a folder is not there, or cannot be made where `makes`, or written to."""
    known = folder.parent if makes and not folder.exists() else folder
    try:
        usable = "\0" not in str(folder) and known.is_dir() and os.access(known, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        source.complain(place, "there is no such folder, or it cannot be written to; make it first")


def _rules(file: str | None, source: Source) -> tuple[Rule, ...] | None:
    if file is None:
        return None
    try:
        return rules(str(source.folder / file), redacting=True)
    except (TocsinError, ValueError) as e:  # ValueError: a name with a zero byte
        source.complain(("record", "redaction"), str(e))
        return None
