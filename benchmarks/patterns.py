"""Patterns: time a token, linear time on hostile text, and other packages on the same texts.

The data set presidio_pii holds synthetic sentences with one or more entities, named by sentence.
Patterns are about what has a shape: cards, e-mail, telephone, social security, bank account and
network addresses. Persons, places and organisations have none and are left out for everyone.

Other packages go into an environment of their own in a temporary folder, made here; where that
fails, the table says so. Times are processor time, the least of the repeats.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import tracemalloc
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import Cell, Found, MissingDataError, Options, Row, data_file, load, say

from tocsin.model import Context, Delta, Score
from tocsin.verifiers.patterns import Patterns, rules
from tocsin.verifiers.patterns.engines import Engine

PEERS = {
    "presidio-analyzer": ["presidio-analyzer"],
    "detect-secrets": ["detect-secrets"],
    # PyTorch first: a release that llm-guard accepts as it is. Together they take over a gigabyte.
    "llm-guard": ["torch==2.13.0", "llm-guard==0.3.16"],
}

ENTITIES: dict[str, tuple[str, ...]] = {
    "CREDIT_CARD": ("payment_card",),
    "EMAIL_ADDRESS": ("email",),
    "IBAN_CODE": ("iban",),
    "IP_ADDRESS": ("ipv4", "ipv6"),
    "PHONE_NUMBER": ("phone_international", "phone_us", "phone_named"),
    "US_SSN": ("us_ssn", "us_ssn_plain"),
}
"""The entities that are compared, and our rules for each."""

UNITS = {
    "a…@": "a",
    "4111 …": "4111 ",
    "1.2.3.4.…": "1.2.3.4.",
    "-----BEGIN …": "-----BEGIN ",
    "base64": "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
    "A.…": "A.",
    "1-…": "1-",
    "spaces": " ",
    "%25…": "%25",
    "marks": "e\u0301\u0302",
}
SIZES = (5_000, 10_000, 20_000, 40_000)
SIZES_QUICK = (2_000, 4_000)

TOKEN_CHARS = 4
PROSE = (
    "The committee met on Tuesday and, after a short debate, agreed that the bridge should be "
    "repaired before the winter. Costs were put at 4.2 million; work begins in March. "
)

Scan = Callable[[str], Any]


def run(options: Options) -> Found:
    """Time ours, then theirs on the same texts, and count what each finds."""
    repeats = 1 if options.quick else 3
    found = Found()
    found.tables["cost"] = _cost(repeats)
    found.tables["hostile text"] = _hostile(options)
    try:
        texts = _sentences(options)
    except MissingDataError as e:
        found.skipped.append(str(e))
        return found
    contents = [text for text, _, _ in texts]
    long = " ".join(contents)[: 20_000 if options.quick else 100_000]
    ours = Patterns()
    mine: dict[str, Any] = {
        "found": [_ours(ours, text) for text in contents],
        "seconds": _least(lambda: [_ours(ours, text) for text in contents], repeats),
        "long": _least(lambda: _ours(ours, long), repeats),
    }
    told: dict[str, dict[str, Any]] = {f"tocsin ({ours.engine})": mine}
    with tempfile.TemporaryDirectory() as folder:
        for peer in [p for p in PEERS if p != "llm-guard" or not options.quick]:
            say(f"patterns: {peer}")
            answer = _peer(peer, Path(folder), contents, long, repeats)
            if isinstance(answer, str):
                found.skipped.append(answer)
            else:
                told[f"{peer} {answer['version']}"] = answer
    found.tables["speed"] = _speed(told, sum(map(len, contents)), len(long))
    found.tables["hostile text, others"] = _theirs_hostile(told)
    found.tables["quality"] = _quality(told, texts)
    found.tables["place"] = _place(ours, texts)
    found.notes += _notes(len(texts))
    return found


def _notes(count: int) -> list[str]:
    return [
        f"{count:,} sentences, {len(rules())} rules; a token is {TOKEN_CHARS} characters.",
        f"Times are of the processor. Load {load()}.",
        (
            "recall: share of the sentences with an entity in which its recogniser found "
            "something; false: share of the others in which it did."
        ),
        (
            "The values are synthetic, and some are invalid: to check them is a miss here. "
            "Telephone numbers are of all countries and shapes. Our rules for them were widened, "
            "and IBANs in lower case admitted, after a look at twelve of these sentences for each "
            "entity: our recall here is optimistic."
        ),
        "llm-guard: its Secrets scanner, the one that needs no model from a hub.",
        "A score of at least 0.4 is a common setting of presidio; `all` is every score.",
    ]


# ------------------------------------------------------------------------------------------- ours


def _ours(verifier: Patterns, text: str) -> list[tuple[str, float]]:
    session = verifier.open(Context())
    outcomes = session.feed(Delta(text=text)) + session.close()
    return [(f.rule, 1.0) for o in outcomes if isinstance(o, Score) for f in o.findings]


def _in_tokens(verifier: Patterns, text: str, size: int) -> None:
    session = verifier.open(Context())
    for at in range(0, len(text), size):
        session.feed(Delta(text=text[at : at + size]))
    session.close()


def _cost(repeats: int) -> list[Row]:
    """Microseconds a token on prose, and memory of a session."""
    text = PROSE * 120
    rows: list[Row] = []
    engines: tuple[Engine, ...] = ("hyperscan", "re2")
    for engine in engines:
        for names in ((), ("folded",), ("folded", "decoded")):
            verifier = Patterns(engine=engine, forms=names)
            say(f"patterns: cost, {engine} {names}")
            row: Row = {"engine": engine, "forms": "+".join(("raw", *names))}
            for what, size in (("by token", TOKEN_CHARS), ("whole", len(text))):
                seconds = _least(lambda v=verifier, s=size: _in_tokens(v, text, s), repeats)
                row[f"{what}, us a token"] = 1e6 * seconds * TOKEN_CHARS / len(text)
            row["session, KiB"] = _session_kib(verifier, text[:4_000])
            row["hold-back, chars"] = verifier.declares.hold_back_chars
            rows.append(row)
    return rows


def _session_kib(verifier: Patterns, text: str) -> float:
    """Measure what Python holds for an open session; a stream of Hyperscan adds some KiB to it."""
    count = 20
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [verifier.open(Context()) for _ in range(count)]
    for session in kept:
        for at in range(0, len(text), TOKEN_CHARS):
            session.feed(Delta(text=text[at : at + TOKEN_CHARS]))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / count / 1024


def _hostile(options: Options) -> list[Row]:
    """Microseconds a character at n, 2n, 4n and 8n: level where time is linear."""
    verifier = Patterns(forms=("folded", "decoded"))
    sizes = SIZES_QUICK if options.quick else SIZES
    rows: list[Row] = []
    for name, unit in UNITS.items():
        say(f"patterns: hostile text, {name}")
        for how in ("whole", "by character"):
            row: Row = {"text": name, "fed": how}
            for size in sizes:
                text = (unit * size)[:size] + "@"
                cut = len(text) if how == "whole" else 1
                seconds = _least(lambda t=text, c=cut: _in_tokens(verifier, t, c), 1)
                row[f"us/char at {size:,}"] = 1e6 * seconds / size
            rows.append(row)
    return rows


# ----------------------------------------------------------------------------------------- theirs


def _peer(
    peer: str, folder: Path, texts: Sequence[str], long: str, repeats: int
) -> dict[str, Any] | str:
    """Install a package and ask it; say why where that is impossible."""
    home = folder / peer
    try:
        venv.create(home, with_pip=True)
        python = str(home / "bin" / "python")
        for package in PEERS[peer]:
            _command([python, "-m", "pip", "install", "--quiet", package], None)
        asked = {
            "peer": peer,
            "texts": texts,
            "long": long,
            "repeats": repeats,
            "units": list(UNITS.values()),
            "sizes": SIZES_QUICK,
        }
        script = str(Path(__file__).with_name("patterns_peers.py"))
        answer: dict[str, Any] = json.loads(_command([python, script], json.dumps(asked)))
    except (OSError, subprocess.SubprocessError, ValueError) as e:
        last = (getattr(e, "stderr", "") or str(e)).strip().splitlines()[-1:]
        return f"{peer} could not be installed or run: {' '.join(last)[:200]}"
    return answer


def _command(words: Sequence[str], stdin: str | None) -> str:
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=True, timeout=1_200
    )
    return done.stdout


def _speed(told: dict[str, dict[str, Any]], chars: int, long: int) -> list[Row]:
    base = next(iter(told.values()))
    rows: list[Row] = []
    for who, answer in told.items():
        rows.append(
            {
                "who": who,
                "sentences, us/1,000 chars": 1e9 * answer["seconds"] / chars,
                "times ours": answer["seconds"] / base["seconds"],
                f"one text of {long:,}, us/1,000 chars": 1e9 * answer["long"] / long,
                "long, times ours": answer["long"] / base["long"],
            }
        )
    return rows


def _theirs_hostile(told: dict[str, dict[str, Any]]) -> list[Row]:
    rows: list[Row] = []
    for who, answer in told.items():
        for name, seconds in zip(UNITS, answer.get("grows", ()), strict=False):
            row: Row = {"who": who, "text": name}
            for size, taken in zip(SIZES_QUICK, seconds, strict=True):
                row[f"us/char at {size:,}"] = 1e6 * taken / size
            rows.append(row)
    return rows


# ---------------------------------------------------------------------------------------- quality


def _sentences(options: Options) -> list[tuple[str, frozenset[str], list[str]]]:
    """Read sentences with their entities; steps of a sentence were cut at white space."""
    columns = ["trajectory_id", "step", "text", "entities"]
    table = pq.read_table(data_file("presidio_pii"), columns=columns).to_pylist()
    table.sort(key=lambda row: (row["trajectory_id"], row["step"]))
    steps: dict[str, list[str]] = {}
    entities: dict[str, frozenset[str]] = {}
    for row in table:
        steps.setdefault(row["trajectory_id"], []).append(row["text"])
        entities[row["trajectory_id"]] = frozenset(filter(None, row["entities"].split(",")))
    made = [(" ".join(parts), entities[name], parts) for name, parts in steps.items()]
    return made[:200] if options.quick else made


def _quality(
    told: dict[str, dict[str, Any]], texts: list[tuple[str, frozenset[str], list[str]]]
) -> list[Row]:
    rows: list[Row] = []
    for entity, ids in ENTITIES.items():
        for who, answer in told.items():
            if who.startswith(("detect-secrets", "llm-guard")):  # they look for secrets alone
                continue
            ours = who.startswith("tocsin")
            names = set(ids) if ours else {entity}
            for least in (0.0,) if ours else (0.0, 0.4):
                hits = [
                    any(name in names and score >= least for name, score in found)
                    for found in answer["found"]
                ]
                rows.append(
                    {
                        "entity": entity,
                        "who": who + ("" if ours else " >= 0.4" if least else " all"),
                        **_rates(entity, hits, texts),
                    }
                )
    return rows


def _rates(
    entity: str, hits: list[bool], texts: list[tuple[str, frozenset[str], list[str]]]
) -> dict[str, Cell]:
    inside = [hit for hit, (_, has, _) in zip(hits, texts, strict=True) if entity in has]
    outside = [hit for hit, (_, has, _) in zip(hits, texts, strict=True) if entity not in has]
    return {
        "with": len(inside),
        "recall": sum(inside) / max(1, len(inside)),
        "without": len(outside),
        "false": sum(outside) / max(1, len(outside)),
    }


def _place(verifier: Patterns, texts: list[tuple[str, frozenset[str], list[str]]]) -> list[Row]:
    """Count characters from the end of a found value to the score that names it, by token."""
    waits: list[int] = []
    for text, _, _ in texts:
        session = verifier.open(Context())
        padded = text + " and that is all there is to say about it, for now at least, I think." * 3
        for at in range(len(padded)):
            for o in session.feed(Delta(text=padded[at])):
                if isinstance(o, Score):
                    waits += [at + 1 - f.end for f in o.findings if f.end <= len(text)]
    waits.sort()
    quantiles = {f"{q} %": waits[min(len(waits) - 1, len(waits) * q // 100)] for q in (50, 90, 99)}
    return [{"characters from a value's end to its finding": "", **quantiles, "most": waits[-1]}]


def _least(action: Callable[[], Any], repeats: int) -> float:
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        action()
        least = min(least, time.process_time() - start)
    return least
