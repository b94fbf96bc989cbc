"""`tocsin score`."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tocsin.cli import options
from tocsin.cli.terminal import err, json_bytes, number, out, plain, progress, table
from tocsin.errors import InputError
from tocsin.evaluation.identity import identity_columns
from tocsin.evaluation.journal import Journal
from tocsin.evaluation.scored_file import Result, scored_columns, summary
from tocsin.evaluation.scoring import Scored, Trajectory, score_all, trajectories
from tocsin.evaluation.texts import ROLES, Texts, file_digest, read_texts
from tocsin.evaluation.writing import check_place, check_target, write_columns
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import AnyVerifier, Declaration
from tocsin.verifiers.registry import verifier as make_verifier

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)


@click.command("score", short_help="Add a verifier's scores to labelled text.")
@click.argument("data")
@click.option(
    "--verifier",
    "specs",
    multiple=True,
    required=True,
    metavar="[NAME=]SPEC",
    help="A verifier, such as patterns, linear:NAME, linear:FILE, remote:CONFIG.toml, "
    "onnx:FOLDER; may be repeated with names, the first is `score`.",
)
@click.option(
    "--out",
    "target",
    required=True,
    metavar="FILE",
    help="Write the text with its scores here: .parquet, .csv or .jsonl.",
)
@click.option(
    "--steps",
    default=None,
    help="What a step is: turn (a row of DATA), sentence, line, paragraph, reasoning, "
    "tokens:K, chars:K; the first verifier's own where not given.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Name of one of our columns in the file; may be repeated.",
)
@click.option("--keep", multiple=True, metavar="COLUMN", help="Another column to carry over.")
@click.option("--drop-text", is_flag=True, help="Write no text, only scores.")
@click.option(
    "--categories",
    is_flag=True,
    help="Add a column score.CATEGORY for each harm category of the first verifier.",
)
@click.option(
    "--concurrency",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Trajectories at once, for a verifier behind a network.",
)
@click.option("--restart", is_flag=True, help="Begin anew, whatever an earlier run has done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data: str, specs: tuple[str, ...], target: str, steps: str | None,
            columns: tuple[str, ...], keep: tuple[str, ...], concurrency: int, *,
            drop_text: bool, categories: bool, restart: bool, as_json: bool) -> None:  # fmt: skip
    """Add a verifier's scores to the labelled text in DATA, for `calibrate` and `evaluate`.

    Rows are steps: trajectory_id, step, text, and where there are any obs (what the model saw),
    label, group, source, onset_step, tokens, category. A run that was cut off goes on where it
    stopped.
    """
    check_target(target)
    check_place(target, data)
    definition, made = _made(specs, steps)
    _check_columns(keep, made)
    texts = read_texts(data, columns=options.parse_columns(columns), extra=keep)
    for _, one in made:
        _check_channels(one.declares, texts)
    _warn_of_training(data, made)
    work = list(trajectories(texts, definition))
    results, journals = [], []
    for i, (name, one) in enumerate(made):
        column = _column(i, name)
        journal = _journal(target, name, texts, one.declares, restart=restart)
        with journal.writing(), progress(f"{name}: {len(work)} trajectories") as tick:
            results.append(_run(column, one, work, journal, concurrency, tick))
        _check_result(results[-1], journal)
        journals.append(journal)
    write_columns(
        target, scored_columns(texts, work, results, drop_text=drop_text, split=categories)
    )
    for journal in journals:
        journal.remove()
    summaries = [summary(texts, work, result) for result in results]
    if as_json:
        click.echo(json_bytes({"written": target, "verifiers": summaries}))
        return
    _show(target, summaries, labelled=texts.label is not None)


def _named(specs: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for i, spec in enumerate(specs):
        match = _NAMED.fullmatch(spec)
        name = match[1] if match else re.sub(r"\W+", "_", spec.partition(":")[0])
        if i and not match:
            raise InputError(f"--verifier {spec!r}: give every verifier but the first a NAME=")
        if name in seen:
            raise InputError(f"--verifier {spec!r}: the name {name} is taken; write OTHER={spec}")
        seen.add(name)
        yield name, match[2] if match else spec


def _check_channels(declares: Declaration, texts: Texts) -> None:
    """Refuse a file that has nothing for a verifier to judge: it would all count as safe."""
    observed = "observation" in declares.channels and any(texts.obs)
    if "text" not in declares.channels and not observed:
        raise InputError(
            f"{declares.name} judges {', '.join(sorted(declares.channels))}, of which the data has "
            "nothing; what the model saw is the column obs: name it with --column obs=THEIRS"
        )


def _made(
    specs: Sequence[str], steps: str | None
) -> tuple[StepDefinition, list[tuple[str, AnyVerifier]]]:
    """Make the verifiers, all of the same steps: those asked for, or the first one's own."""
    definition = None if steps is None else StepDefinition.parse(steps)
    made: list[tuple[str, AnyVerifier]] = []
    for name, spec in _named(specs):
        one = make_verifier(spec, definition)
        own = one.declares.steps
        if own != (definition or own):
            raise InputError(
                f"{one.declares.name} was made for steps {own}; score with --steps {own}"
            )
        definition = own
        made.append((name, one))
    return made[0][1].declares.steps, made


def _warn_of_training(data: str, made: Sequence[tuple[str, AnyVerifier]]) -> None:
    """Say so where a verifier has learned from the very file that it is to score."""
    learned: dict[str, frozenset[str]] = {
        one.declares.name: getattr(one, "learned_from", frozenset()) for _, one in made
    }
    if not any(learned.values()):
        return
    digest = file_digest(data)
    for name, digests in learned.items():
        if digest in digests:
            err().print(
                f"{plain(name)} was trained on this very file: scores of what it has learned from "
                "are too good, and a threshold set on them breaks its promise",
                markup=False,
                soft_wrap=True,
            )


def _check_result(result: Result, journal: Journal[Scored]) -> None:
    """Refuse to write a column of nothing, and keep no journal of it."""
    if any(scored.judged for scored in result.scored):
        return
    journal.remove()
    reasons = sorted({reason for scored in result.scored for reason in scored.unknown})
    hints = [_HINTS[reason] for reason in reasons if reason in _HINTS]
    raise InputError(
        f"{result.declares.name} has no score for any step ({', '.join(reasons) or 'no text'}); "
        f"nothing is written{': ' if hints else ''}{'; '.join(hints)}"
    )


_HINTS = {
    "unreachable": "is the server up, and the URL right?",
    "no_input": "a file of text has no log-probabilities: score where the generator runs",
    "timeout": "raise the deadline, or ask fewer at once with --concurrency",
    "refused": "is the key right?",
}


def _check_columns(keep: Sequence[str], made: Sequence[tuple[str, AnyVerifier]]) -> None:
    """Refuse what would put two columns in one place."""
    written = [*ROLES, *(f"score.{name}" for name in made[0][1].declares.categories)]
    for i, (name, one) in enumerate(made):
        columns = [_column(i, name), *identity_columns(one.declares.signal(), _column(i, name))]
        if not set(written).isdisjoint(columns):
            raise InputError(
                f"--verifier {name}=...: a verifier cannot have this name; use another"
            )
        written += columns
    for name in keep:
        if name in written:
            raise InputError(f"--keep {name!r}: this name is taken by another column; rename yours")


def _column(i: int, name: str) -> str:
    """Name the column of a verifier's scores."""
    return f"score_{name}" if i else "score"


# ------------------------------------------------------------------------------------------ a run


def _place(target: str, name: str) -> Path:
    return Path(f"{target}.{name}.unfinished")


def _journal(
    target: str, name: str, texts: Texts, declares: Declaration, *, restart: bool
) -> Journal[Scored]:
    """Open the journal of this run, and read what an earlier one has done."""
    digest = hashlib.sha256()
    for cell in (*texts.trajectory_id, *texts.text, *texts.obs):
        raw = str(cell).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    identity = f"{declares.name} {declares.version} {declares.steps} {digest.hexdigest()}"
    journal = Journal(_place(target, name), identity, Scored)
    if restart:
        journal.remove()
    journal.read()
    return journal


def _run(
    column: str,
    verifier: AnyVerifier,
    work: Sequence[Trajectory],
    journal: Journal[Scored],
    concurrency: int,
    tick: Callable[[int, int], None],
) -> Result:
    todo = [(i, t) for i, t in enumerate(work) if i not in journal.done]
    if len(todo) < len(work):
        err().print(f"{len(work) - len(todo)} of {len(work)} were done before; going on")

    async def run() -> None:
        async for i, scored in score_all(verifier, iter(todo), concurrency):
            journal.add(i, scored)
            tick(len(journal.done), len(work))

    began = time.perf_counter()
    asyncio.run(run())
    return Result(
        column=column,
        declares=verifier.declares,
        scored=[journal.done[i] for i in range(len(work))],
        seconds=time.perf_counter() - began,
        steps_timed=sum(len(trajectory.pieces) for _, trajectory in todo),
    )


def _show(target: str, summaries: Sequence[dict[str, Any]], *, labelled: bool) -> None:
    areas = ["auc_first", "auc_min", "auc_last"] if labelled else []
    names = ["column", "verifier", "steps", "missing", "ms_per_step", *areas]
    rows = [
        [
            number(cell) if isinstance(cell, float) or cell is None else str(cell)
            for cell in (made[name] for name in names)
        ]
        for made in summaries
    ]
    heads = [name.replace("_per_", "/").replace("auc_", "AUC ") for name in names]
    console = out()
    console.print(table("", heads, rows))
    for made in summaries:
        if made["unknown"]:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(made["unknown"].items()))
            err().print(f"unknown in {made['column']}: {counts}", markup=False)
    console.print(f"written to {plain(target)}", markup=False, soft_wrap=True)
    if labelled:
        console.print(
            f"next: tocsin calibrate {plain(target)} --epsilon 0.1", markup=False, soft_wrap=True
        )
