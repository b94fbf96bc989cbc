"""Other people's checks of gateways, run on ours: llm-comply and pii-leak-benchmark.

Both are installed in an environment of their own and run as their pages say. Nothing of them is
changed; what stands between them and the gateway is said where it stands.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from common import Found, Options, Row, machine, plain, say

from tocsin.errors import TocsinError
from tocsin.testing.fake_model import Call, Choice, Exchange, FakeModel, Reply
from tocsin.testing.local_model import MODEL, LocalModel

PINS = (
    "llm-comply==0.5.0", "jsonschema==4.26.0", "pii-leak-benchmark==0.6.0", "httpx==0.28.1",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results") / "clients.json"
KEY = "sk-clients"
SEED = 0xA1B2C3D4E5F60001
INSTALL_S = 600
RUN_S = 1_800

FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "openai-chat": ("gpt-5", ()),
    "open-responses": ("gpt-5", ()),
    "anthropic": (
        "claude-opus-4",
        ("--auth-header", "x-api-key", "--no-bearer", "-H", "anthropic-version:2023-06-01"),
    ),
}
"""Of llm-comply: for each format a model's name that lets it try reasoning too, and its options."""

FORMS = 'forms = ["folded", "decoded"]\n'
SHAPE = (
    FORMS
    + """
[[rule]]
id = "three_two_four"
title = "Any number written as a social security number, assignable or not"
pattern = '\\b[0-9]{3}-[0-9]{2}-[0-9]{4}\\b'
number = true
category = "sensitive_data"
"""
)
RULES: Mapping[str, str] = {"built-in": FORMS, "built-in and any 3-2-4 number": SHAPE}
REFERENCE = ("passthrough", "redact-all", "chunk-local", "bounded-retention")
"""Policies that pii-leak-benchmark brings along, for comparison."""


def run(options: Options) -> Found:
    """Run both, and keep what they say."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="tocsin-clients-") as name:
        folder = Path(name)
        try:
            programs = _environment(folder / "venv")
        except (OSError, subprocess.SubprocessError) as e:
            last = (getattr(e, "stderr", "") or str(e)).strip().splitlines()[-1:]
            found.skipped.append(f"the packages were not installed: {' '.join(last)[:300]}")
            return found
        found.tables["llm-comply"] = _complies(programs, folder, found)
        found.tables["pii-leak-benchmark, answers"] = _leaks(programs, folder, options)
        found.tables["pii-leak-benchmark, requests"] = _selfchecks(programs, folder)
    found.notes += [
        "llm-comply: its tests that an endpoint passes. The local model's words are drawn anew.",
        "pii-leak-benchmark, answers: values that the model makes up; whole, and cut in two.",
        "Its social security numbers begin with 9: none is assignable, no built-in rule finds one.",
        "Fidelity is the share of masked values that come back; nothing here gives one back.",
        "pii-leak-benchmark, requests: requests are checked here, and stopped; never rewritten.",
    ]
    if options.save:
        told = {
            "machine": machine(),
            "command": options.command,
            "packages": PINS,
            "skipped": found.skipped,
            "notes": found.notes,
            "tables": found.tables,
        }
        RESULTS.write_text(json.dumps(plain(told), indent=1) + "\n", encoding="utf-8")
    return found


# ------------------------------------------------------------------------------------- processes


def _environment(home: Path) -> Path:
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", *PINS]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_S)
    return home / "bin"


def _run(words: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CONFORMANCE_", "PYTHON"))}
    told = {"CONFORMANCE_TARGET_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True, text=True, check=False, timeout=RUN_S, env=kept | told,
    )  # fmt: skip


@contextmanager
def _gateway(
    folder: Path, upstream: str, rules: str = FORMS, *, halts_input: bool = False
) -> Iterator[str]:
    """Run the program before an upstream; every finding in an answer is masked."""
    (folder / "rules.toml").write_text(rules, encoding="utf-8")
    found = {"verifier": "patterns:rules.toml", "findings": {"*": "mask"}}
    policy: dict[str, Any] = {"checks": [found]}
    if halts_input:
        policy["input"] = [{**found, "findings": {"*": "halt"}}]
    speaks = ["chat", "responses", "messages"]
    config = {
        "listen": {"port": 0},
        "open_to_all": True,
        "upstreams": {"model": {"url": f"{upstream}/v1", "speaks": speaks}},
        "routes": [{"name": "all"}],
        "policies": {"default": policy},
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "tocsin", "serve", str(file), "--metrics", "off"]
    with (
        (folder / "gateway.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError(f"no gateway: {(folder / 'gateway.log').read_text()[-500:]}")
            yield line.split()[-1]
        finally:
            process.terminate()


# ------------------------------------------------------------------------------------ llm-comply


def _model(exchange: Exchange) -> Reply:
    """Answer as a model that does what each test asks for."""
    asked = exchange.body
    if asked.get("tools"):
        call = Call(name="get_weather", arguments='{"location":"San Francisco"}')
        return Reply(choices=(Choice(calls=(call,)),))
    if any(asked.get(name) for name in ("thinking", "reasoning", "reasoning_effort")):
        return Reply(choices=(Choice(reasoning="15 * 37 = 555", text="It is 555."),))
    return Reply(choices=(Choice(text="One, two, three, four, five."),))


def _complies(programs: Path, folder: Path, found: Found) -> list[Row]:
    say("clients: llm-comply")
    rows: list[Row] = []
    with FakeModel(_model) as fake:
        rows += _compared(programs, folder, "fake", fake.url, "")
    try:
        with LocalModel() as local:
            rows += _compared(programs, folder, "local (135M)", local.url, MODEL)
    except TocsinError as e:
        found.skipped.append(f"llm-comply on a local model: {e}")
    return rows


def _compared(programs: Path, folder: Path, who: str, url: str, model: str) -> Iterator[Row]:
    with _gateway(folder, url) as guarded:
        for form in FORMATS:
            for how, base in (("directly", url), ("through the gateway", guarded)):
                yield {"model": who, "asked": how, **_complied(programs, form, base, model)}


def _complied(programs: Path, form: str, url: str, model: str) -> Row:
    named, options = FORMATS[form]
    asked = ["--format", form, "-u", f"{url}/v1", "-k", KEY, "-m", model or named, "--json",
             "--timeout", "300"]  # fmt: skip
    told = json.loads(_run([programs / "llm-comply", *asked, *options]).stdout)
    failed = [one["id"] for one in told["results"] if one["status"] == "failed"]
    return {
        "format": form,
        **{name: told["summary"][name] for name in ("total", "passed", "failed", "skipped")},
        "warned": sum("warnings" in one for one in told["results"]),
        "failed tests": ", ".join(failed) or None,
    }


# --------------------------------------------------------------------------- pii-leak-benchmark


class _Ending:
    """Stands before the benchmark's capture, whose streams lack what the API has at their end.

    Its chunks have no finish reason, and a stream without one was cut off, says our codec. One
    chunk with a reason is put before ``[DONE]``; all else passes as it is.
    """

    END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'

    def __init__(self, capture: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                """Pass a request on, and its answer back."""
                asked = self.rfile.read(int(self.headers["content-length"]))
                request = urllib.request.Request(
                    f"http://127.0.0.1:{capture}{self.path}",
                    asked,
                    {"content-type": "application/json"},
                )
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(request) as answer:
                    said: bytes = answer.read()
                said = said.replace(b"data: [DONE]", _Ending.END + b"data: [DONE]")
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _leaks(programs: Path, folder: Path, options: Options) -> list[Row]:
    seed = f"{SEED + options.seed:x}"
    say("clients: pii-leak-benchmark's own policies")
    rows = [] if options.quick else _leaked(programs, folder, seed, "midpoint", REFERENCE, ())
    for rules, text in RULES.items():
        thorough = text is SHAPE and not options.quick
        oracle = "exhaustive-2-part" if thorough else "midpoint"
        say(f"clients: pii-leak-benchmark, {rules}, {oracle}")
        capture = _free_port()
        with _Ending(capture) as ending, _gateway(folder, ending.url, text) as url:
            told = ("--gateway-url", f"{url}/v1/chat/completions", "--upstream-port", str(capture))
            (row,) = _leaked(programs, folder, seed, oracle, ("tocsin",), told)
        rows.append({**row, "who": f"tocsin, {rules}"})
    return rows


def _leaked(
    programs: Path, folder: Path, seed: str, oracle: str, who: Sequence[str], told: Sequence[str]
) -> list[Row]:
    out = folder / "leaks"
    asked: list[str | Path] = [
        "--out",
        out,
        "--only",
        ",".join(who),
        "--seed",
        seed,
        "--oracle",
        oracle,
    ]
    done = _run([programs / "pii-leak-benchmark-v2", *asked, "--partial-emission", *told])
    rows: list[Row] = []
    for name in who:
        file = out / f"{name}.json"
        if not file.is_file():
            raise RuntimeError(f"pii-leak-benchmark: {(done.stderr or done.stdout)[-500:]}")
        report = json.loads(file.read_bytes())
        partial = json.loads((out / f"{name}.partial-emission.json").read_bytes())["metrics"]
        metrics = report["metrics"]
        held = report["checks"]["response_injection_containment"]
        rows.append({
            "who": name,
            "cuts": oracle,
            "cases": metrics["cases_applicable"],
            "leak, whole": metrics["leak_rate"]["single_chunk"],
            "leak, cut": metrics["leak_rate"]["adversarial"],
            "DeltaFrag": metrics["delta_frag"],
            "pieces": partial["partial_emission_rate"]["overall"],
            "leaked types": ", ".join(held["leaked_entity_types"]) or None,
            "fidelity": metrics["fidelity_rate"],
        })  # fmt: skip
    return rows


def _selfchecks(programs: Path, folder: Path) -> list[Row]:
    say("clients: pii-leak-benchmark selfcheck")
    rows: list[Row] = []
    for policy, halts in (("answers are masked", False), ("requests are halted", True)):
        capture, out = _free_port(), folder / "selfcheck.json"
        with _gateway(folder, f"http://127.0.0.1:{capture}", halts_input=halts) as url:
            asked = ["--target-base-url", f"{url}/v1", "--capture-port", str(capture)]
            words: list[str | Path] = [
                "selfcheck",
                "--duty",
                "anonymize",
                *asked,
                "--json-out",
                out,
            ]
            done = _run([programs / "pii-leak-benchmark", *words])
        boundary = json.loads(out.read_bytes())["checks"]["configured_upstream_boundary"]
        verdicts = ("CLEAN", "LEAK", "CHECK FAILED", "NOT MEASURED")
        lines = [line.strip() for line in done.stdout.splitlines()]
        rows.append({
            "policy": policy,
            "verdict": next(line for line in lines if line in verdicts),
            "requests at the model": boundary["captured_requests"],
            "values at the model": len(boundary["leaked_entity_types"]),
        })  # fmt: skip
    return rows


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port
