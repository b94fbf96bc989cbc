"""`tocsin serve --demo`: the gateway at work on answers of a real small model, in a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from tocsin import __version__
from tocsin.cli.terminal import number, out, plain, prose
from tocsin.errors import MissingExtra

RECORDED = "recorded"
"""The model that says again what was recorded."""

STORY = "recorded-story"
"""The same under another policy."""

SCENES = (
    (RECORDED, "sky", "nothing to object to"),
    (RECORDED, "lost_card", "private data, masked where it stands"),
    (STORY, "witch", "an alarm in the middle of an answer"),
)
"""Which model is asked for which recording, and what that shows."""

LOG = "demo.example/log"
"""Name of the log; each demonstration has a record of its own, which ends with it."""

CONFIG = """\
listen: {{host: 127.0.0.1, port: {port}}}
open_to_all: true # for this machine alone
record: {{store: record.db, keys: keys, log: {log}}}
upstreams:
  recorded: {{url: {recorded}/v1, speaks: [chat, responses, messages]}}
{local_upstream}routes:
  - {{name: story, models: [recorded-story], upstream: recorded, policy: harm}}
  - {{name: recorded, models: [recorded], upstream: recorded, policy: private}}
{local_route}policies:
  private:
    checks:
      - {{name: private_data, verifier: patterns, findings: {{"*": mask}}}}
  harm:
    checks:
      - {{name: harm, verifier: "linear:harmful_answer", calibration: demonstration, epsilon: 0.1}}
  both:
    checks:
      - {{name: private_data, verifier: patterns, findings: {{"*": mask}}}}
      - {{name: harm, verifier: "linear:harmful_answer", calibration: demonstration, epsilon: 0.1}}
"""

TENANT = "local"
"""What whoever asks without a key is called."""


def demo(
    port: int,
    *,
    once: bool,
    speed: float = 1.0,
    live: bool = True,
    console: Console | None = None,
) -> int:
    """Show three answers under guard, then go on serving until told to stop.

    Args:
        port: of the gateway; 0 picks one.
        once: end after the answers; so it does where nobody watches a terminal.
        speed: how many times as fast as it was recorded.
        live: ask the small model itself too, where it is installed.
        console: where to; standard output where None.

    Returns:
        The exit status.
    """
    from tocsin.gateway.app import make_app
    from tocsin.gateway.building import load
    from tocsin.gateway.door import Door
    from tocsin.gateway.log import Log
    from tocsin.gateway.server import serve
    from tocsin.testing.fake_model import FakeModel
    from tocsin.testing.recordings import replayed

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-demo-")))
        fake = stack.enter_context(FakeModel(replayed(speed=speed)))
        upstream, route, model = _local(stack) if live else ("", "", "")
        config = folder / "gateway.yaml"
        config.write_text(
            CONFIG.format(
                port=port, log=LOG, recorded=fake.url, local_upstream=upstream, local_route=route,
            ),
            encoding="utf-8",
        )  # fmt: skip
        log = stack.enter_context((folder / "log.jsonl").open("wb"))
        console = console or out()
        tour = _Tour(console, folder, model, once=once or not console.is_terminal)
        door = Door(ready=tour.begin, log=Log(log))
        return serve(lambda: load(config), make_app, door) or tour.status


def _local(stack: ExitStack) -> tuple[str, str, str]:
    """Start the small model too, where it is installed: its lines in the file, and its name."""
    from tocsin.testing.local_model import MODEL, LocalModel

    try:
        url = stack.enter_context(LocalModel()).url
    except MissingExtra:
        return "", "", ""
    upstream = f"  local: {{url: {url}/v1, speaks: [chat]}}\n"
    route = f"  - {{name: local, models: [{MODEL}], upstream: local, policy: both}}\n"
    return upstream, route, MODEL


class _Tour:
    """What is shown while the gateway runs; in a thread of its own, as a client would be.

    Args:
        console: where to.
        folder: of the configuration and the record.
        model: the name of the live model; empty where there is none.
        once: stop the gateway at the end.
    """

    def __init__(self, console: Console, folder: Path, model: str, *, once: bool) -> None:
        self._console = console
        self._folder = folder
        self._model = model
        self._once = once
        self._url = ""
        self.status = 0

    def begin(self, where: str, _operating: str) -> None:
        """Begin, now that the gateway listens."""
        self._url = f"http://{where}"
        threading.Thread(target=self._run, name="tour", daemon=True).start()

    def _run(self) -> None:
        try:
            self._show()
        except Exception as e:  # noqa: BLE001 - a thread's error would be lost
            self._console.print(Text(f"the demonstration broke: {type(e).__name__}: {e}"))
            self.status, self._once = 1, True
        if self._once:
            os.kill(os.getpid(), signal.SIGTERM)

    def _show(self) -> None:
        from tocsin.testing.recordings import load

        say = self._console.print
        say(Text(f"Tocsin {__version__}: a gateway at {self._url}/v1, in front of answers of"))
        say(Text("SmolLM2-135M that were recorded word by word\n"))
        for model, name, what in SCENES:
            self._scene(model, load(name).prompt, what)
        if self._model:
            self._scene(self._model, load("sky").prompt, "the same model, live")
        if not self._once:
            self._invite()

    def _scene(self, model: str, prompt: str, what: str) -> None:
        say = self._console.print
        say(Rule(what, style="dim", align="left"))
        say(Text.assemble(("user   ", "bold"), plain(prompt)))
        say(Text("model  ", style="bold"), end="")
        flow = _Flow(self._console, column=len("model  "))
        account: dict[str, Any] = {}
        stopped = False
        for kind, value in self._ask(model, prompt):
            if kind == "text":
                flow.write(plain(value))
            elif kind == "account":
                account = value
            else:
                stopped = value == "content_filter"
        flow.end()
        say(Text(" ■ stopped", style="bold red") if stopped else "")
        say(_account(account))
        if account.get("alarms"):
            receipt, verified = self._receipt(account["receipt"])
            for line in alarm_lines(receipt):
                say(line)
            say(Text(verified, style="dim"))
        say("")

    def _ask(self, model: str, prompt: str) -> Iterator[tuple[str, Any]]:
        """Ask as any client does; give texts as they come, the guard's note and the end."""
        asked = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 200,
        }
        request = urllib.request.Request(  # noqa: S310 - our own address, which is http
            f"{self._url}/v1/chat/completions",
            json.dumps(asked).encode(),
            {"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            for raw in answer:
                line = raw.decode().rstrip("\n")
                if line.startswith(": tocsin "):
                    yield "account", json.loads(line.removeprefix(": tocsin "))
                elif line.startswith("data: {"):
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        if choice["delta"].get("content"):
                            yield "text", choice["delta"]["content"]
                        if choice.get("finish_reason"):
                            yield "end", choice["finish_reason"]

    def _receipt(self, name: str) -> tuple[dict[str, Any], str]:
        """Fetch a receipt as anybody may, and verify it with the public key alone."""
        from tocsin.receipts import read_keys, verify

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._url}/v1/receipts/{name}") as answer:
            proof = answer.read()
        keys = read_keys((self._folder / "keys" / "log.vkey").read_text("ascii"))
        found = verify(proof, [key.named(f"{LOG}/{TENANT}") for key in keys])
        receipt: dict[str, Any] = json.loads(found.entry.body)
        said = f"verified: entry {found.index} of {found.size} in the log {found.origin}, signed"
        return receipt, said

    def _invite(self) -> None:
        say = self._console.print
        say(Rule("your turn", style="dim", align="left"))
        models = ", ".join(filter(None, (RECORDED, STORY, self._model)))
        say(Text(f"base_url={self._url}/v1 api_key=any model={models}"))
        say(Text(f"configuration, record and log, until it ends: {plain(str(self._folder))}"))
        say(Text("Ctrl-C ends it."))


class _Flow:
    """Prints text as it comes, with lines broken between words.

    Args:
        console: where to.
        column: at which the text begins.
    """

    def __init__(self, console: Console, column: int) -> None:
        self._console = console
        self._column = column
        self._word = ""

    def write(self, text: str) -> None:
        """Print all but the last word, which may go on."""
        *words, self._word = re.split(r"(?<=[ \n])", self._word + text)
        self._print(words)

    def end(self) -> None:
        """Print what is left."""
        self._print([self._word])

    def _print(self, words: list[str]) -> None:
        out = ""
        for word in words:
            if self._column + len(word.rstrip()) > self._console.width:
                out, self._column = out.rstrip(" ") + "\n", 0
            out += word
            self._column = 0 if word.endswith("\n") else self._column + len(word)
        self._console.print(Text(out), end="", soft_wrap=True)


def _account(account: dict[str, Any]) -> Text:
    """Say what the guard did, in one line."""
    parts = [f"{account[name]:,} characters {name}" for name in ("scanned", "released", "held")]
    return Text(f"guard  {account['status']}: {', '.join(parts)}", style="dim")


def alarm_lines(receipt: dict[str, Any]) -> Iterator[Text]:
    """Say what a receipt holds, in a few lines."""
    checks = {check["name"]: check for check in receipt["checks"]}
    for alarm in receipt["alarms"]:
        head = Text(" ALARM ", style="bold white on red" if alarm["done"] == "halt" else "reverse")
        if alarm["rule"]:
            place = f"characters {alarm['start']:,} to {alarm['end']:,}"
            yield _beside(head, f" {alarm['rule']} at {place}: {alarm['done']}")
            continue
        promise = checks[alarm["check"]]["promise"]
        yield _beside(
            head,
            f" {alarm['check']} in step {alarm['step']}, character {alarm['upto']:,}: "
            f"{alarm['done']}. m = {number(alarm['statistic'])} {promise['comparison']} "
            f"λ = {number(promise['threshold'])}, ε = {promise['epsilon']:g}, "
            f"δ = {promise['delta']:g}, n = {promise['n']}",
        )
        yield prose(promise["sentence"], style="dim")
    yield Text(f"receipt {receipt['who']['id']}", style="dim")


def _beside(head: Text, text: str) -> Text:
    return Text().append_text(head).append(plain(text))
