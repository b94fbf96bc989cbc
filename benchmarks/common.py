"""What all benchmarks share: rows, timing, the data folder, and the machine in words."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tocsin.evaluation import datasets
from tocsin.risk.trajectories import Trajectories

Cell = str | int | float | None
Row = dict[str, Cell]

EPSILONS = (0.05, 0.1, 0.2, 0.3)
DELTA = 0.1

VARIABLE = "TOCSIN_DATA"
SETS = ("ev_math", "ev_gsm8k", "ev_chessgames")

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas", "e-valuator", "tocsin")


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Args:
        quick: less data and fewer repeats; the numbers are then only a sign of life.
        seed: of everything random.
        jobs: processes for what can be divided.
        save: write result files and the figure.
        command: how this run was started, to be written beside its results.
    """

    quick: bool
    seed: int
    jobs: int
    save: bool
    command: str


@dataclass
class Found:
    """What a benchmark found.

    Args:
        tables: rows by the name of their table.
        hidden: tables that are only in the JSON.
        notes: one line each, printed below the tables.
        skipped: why some or all of it was left out.
    """

    tables: dict[str, list[Row]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class MissingDataError(Exception):
    """The data folder, or a file in it, is not there."""


def data_file(name: str) -> Path:
    """Return the place of a data set.

    Raises:
        MissingDataError: saying what to set.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise MissingDataError(f"set {VARIABLE} to the folder that holds {name}.parquet")
    path = Path(folder) / f"{name}.parquet"
    if not path.is_file():
        raise MissingDataError(f"the folder named by {VARIABLE} has no {name}.parquet")
    return path


def read(name: str) -> Trajectories:
    """Read a data set by name."""
    return datasets.read(data_file(name))


def best(action: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least wall time of several calls, in seconds, and what the last returned."""
    least, result = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = action()
        least = min(least, time.perf_counter() - start)
    return least, result


def machine() -> dict[str, Any]:
    """Describe the machine and the versions, without its name."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "load_1min": load(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def load() -> float | None:
    """Return the load average of the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def plain(value: Any) -> Any:
    """Return a value as JSON takes it: NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def say(text: str) -> None:
    """Tell on stderr how far a long benchmark is."""
    print(text, file=sys.stderr, flush=True)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
