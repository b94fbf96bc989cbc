"""Fuzz one target with atheris: `python3 dev.py fuzz NAME [--runs N]`.

What the run finds worth keeping goes to `build/fuzz/NAME`; an input that breaks a law is written
there as `crash-...`.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LENGTH_MAX = 2_048
TIMEOUT_S = 10
MEMORY_MB_MAX = 2_048

_SHARED = ("sse", "utf16", "shapes")
MEASURED = {
    **{api: [f"stream.{m}" for m in (api, *_SHARED)] for api in ("chat", "responses", "messages")},
    "config": ["gateway.config_file", "gateway.yaml_text"],
    "guarded": ["guarding", "stream.window"],
    "heads": ["gateway.strict"],
    "receipts": ["receipts"],
    "requests": [
        f"stream.{m}" for m in ("chat_request", "responses_request", "request_fields", "messages_")
    ],
    "sse": ["stream.sse"],
}
"""By target, how the names begin of the modules whose coverage leads the fuzzer: the parts under
test alone, for each line that is measured costs time."""


def unmeasured(target: str) -> list[str]:
    """Give the names of the package's other modules."""
    spec = find_spec("tocsin")
    folder = Path(str(spec and spec.origin)).parent
    names = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.py"))
    parts = tuple(f"tocsin.{part}" for part in MEASURED[target])
    modules = (f"tocsin.{n.replace('/', '.').removesuffix('.__init__')}" for n in names)
    return [m for m in modules if not m.startswith(parts)]


def main(target: str, runs: str, *more: str) -> None:
    """Run a target so many times; further arguments go to libFuzzer."""
    sys.path += [str(ROOT / "tests"), str(Path(sys.prefix) / "fuzz")]
    import atheris

    with atheris.instrument_imports(include=["tocsin"], exclude=unmeasured(target)):
        module = importlib.import_module(f"fuzz.{target}")
    found = ROOT / "build" / "fuzz" / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-atheris_runs={runs}", f"-max_len={LENGTH_MAX}", "-len_control=0"]
    options += [f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB_MAX}"]
    options += [f"-artifact_prefix={found}/", *more]
    folders = [found, ROOT / "fuzz" / "corpus" / target]
    atheris.Setup([target, *options, *map(str, folders)], module.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
