"""`tocsin train`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tocsin.cli import options
from tocsin.cli.terminal import json_bytes, number, out, plain, progress, table
from tocsin.durable import write_whole
from tocsin.errors import InputError
from tocsin.evaluation.texts import Texts, file_digest, read_texts
from tocsin.evaluation.writing import check_place
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.taxonomy import BY_ID

if TYPE_CHECKING:
    from tocsin.verifiers.linear.training import Data


@click.command("train", short_help="Train a linear verifier on labelled text.")
@click.argument("data", nargs=-1, required=True)
@click.option("--out", "target", required=True, metavar="MODEL", help="Write the model here.")
@click.option("--task", default=None, help="What it learns, in one word; MODEL's name by default.")
@click.option("--observations", is_flag=True, help="Read the obs column too: tool results.")
@click.option(
    "--steps", default="turn", show_default=True, help="Step definition it is used with by default."
)
@click.option(
    "--column", "columns", multiple=True, metavar="OURS=THEIRS",
    help="Name of one of our columns in the files; may be repeated.",
)  # fmt: skip
@click.option(
    "--category", "categories", multiple=True, metavar="THEIRS=OURS",
    help="A value of the category column and the harm category that it is; may be repeated.",
)  # fmt: skip
@click.option(
    "--over-refusal", metavar="COLUMN=VALUE",
    help="Where the prompt is harmless: state the share of these safe answers that is flagged.",
)  # fmt: skip
@click.option(
    "--licence", "licences", multiple=True, metavar="TEXT", help="Of each file, in order."
)
@click.option("--notes", default="", metavar="TEXT", help="What else the card should say.")
@click.option("--card", "card_file", metavar="FILE.md", help="Write the model card here as text.")
@click.option("--bits", type=click.IntRange(8, 22), default=18, show_default=True,
              help="The table has 2^BITS places for each head.")  # fmt: skip
@click.option(
    "--hold-out",
    "share",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    show_default=True,
    help="Share of the groups that is not touched, to calibrate on.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of the folds.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    data: tuple[str, ...], target: str, columns: tuple[str, ...], card_file: str | None,
    *, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Train a verifier on the labelled text in DATA, one file or several, and say how good it is.

    Rows are steps: trajectory_id, step, text, label (of the whole trajectory, 1 safe), and where
    there are any obs, group, source, category. Splits go by group. Use the result as
    linear:MODEL, as in `tocsin score DATA --verifier linear:MODEL`.

    Example: tocsin train answers.csv --out answers.tocsin-linear --card answers.md
    """
    from tocsin.verifiers.linear.card import File, card, markdown
    from tocsin.verifiers.linear.model_file import Features, to_bytes
    from tocsin.verifiers.linear.training import train

    steps = str(StepDefinition.parse(given["steps"]))
    given["task"] = given["task"] or _stem(target)
    if not given["task"].isprintable():
        raise InputError(f"--task {given['task']!r}: it holds characters that cannot be shown")
    licences = given["licences"]
    if licences and len(licences) != len(data):
        raise InputError(f"{len(licences)} licences for {len(data)} files; give one for each")
    check_place(target, *data, *([card_file] if card_file else []))
    if card_file:
        check_place(card_file, *data)
    made = _data(data, options.parse_columns(columns), given)
    files = [
        File(name=plain(Path(name).name), digest=file_digest(name), **_licence(licences, i))
        for i, name in enumerate(data)
    ]
    written = _command_line(data, target, columns, given)
    with progress("training") as tick:
        model = train(
            made,
            task=given["task"],
            steps=steps,
            features=Features(bits=given["bits"], observations=given["observations"]),
            seed=given["seed"],
            describe=lambda d, names, m: card(d, names, m, files, plain(given["notes"]), written),
            tick=tick,
        )
    write_whole(target, to_bytes(model))
    if card_file:
        write_whole(card_file, markdown(model.header).encode())
    if as_json:
        click.echo(json_bytes({"written": target, "digest": model.header.digest,
                               "card": model.header.card}))  # fmt: skip
        return
    _show(target, model.header.digest, model.header.card, given["share"])


def _stem(target: str) -> str:
    """Return what the name of a file begins with, as far as it is made of letters and digits."""
    word = re.match(r"[\w-]*", Path(target).name)
    return word[0] if word and word[0].isprintable() and word[0] else "custom"


# --------------------------------------------------------------------------------------- the data


def _data(names: Sequence[str], columns: dict[str, str], given: dict[str, Any]) -> Data:
    from tocsin.verifiers.linear.training import Data, held_out

    harmless = given["over_refusal"]
    column, _, value = (harmless or "").partition("=")
    if harmless and not (column and value):
        raise InputError(f"--over-refusal {harmless!r}: write COLUMN=VALUE")
    mapped = _mapping(given["categories"])
    parts = [_texts(name, columns, column) for name in names]
    if column and not any(column in texts.extra for texts in parts):
        raise InputError(f"--over-refusal {harmless!r}: no file has a column {column!r}")
    several = len(parts) > 1
    groups: dict[tuple[int, str], int] = {}
    group, file, source, category, good, safe = [], [], [], [], [], []
    for i, texts in enumerate(parts):
        first = texts.starts[:-1]
        own = texts.trajectory_id if texts.group is None else texts.group
        group += [groups.setdefault((i, str(g)), len(groups)) for g in own[first]]
        file += [i] * len(first)
        source += _sources(texts, Path(names[i]).stem if several else "")
        category += _categories(texts, mapped)
        safe += [bool(label) for label in _labels(texts, names[i])[first]]
        extra = texts.extra.get(column)
        good += [extra is not None and str(extra[row]) == value for row in first]
    lengths = np.concatenate([np.diff(texts.starts) for texts in parts])
    kept = np.array([not held_out(g, given["share"], given["seed"]) for _, g in groups], bool)
    return Data(
        text=[str(t) for texts in parts for t in texts.text],
        obs=[str(t) if given["observations"] else "" for texts in parts for t in texts.obs],
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        safe=np.array(safe),
        group=np.array(group),
        file=np.array(file),
        source=np.array(source, dtype=object),
        category=np.array(category, dtype=object),
        harmless=np.array(good),
    ).take(kept[np.array(group)])


def _texts(name: str, columns: dict[str, str], extra: str) -> Texts:
    """Read a file, with the extra column where it has one."""
    if not extra:
        return read_texts(name, columns=columns)
    try:
        return read_texts(name, columns=columns, extra=[extra])
    except InputError:
        return read_texts(name, columns=columns)


def _labels(texts: Texts, name: str) -> Any:
    if texts.label is None:
        raise InputError(f"{name}: has no column 'label'; name it with --column label=THEIRS")
    return texts.label


def _sources(texts: Texts, prefix: str) -> list[str]:
    first = texts.starts[:-1]
    own = [""] * len(first) if texts.source is None else [str(s) for s in texts.source[first]]
    return [f"{prefix}: {s}" if prefix and s else prefix or s for s in own]


def _categories(texts: Texts, mapped: dict[str, str]) -> list[str]:
    first = texts.starts[:-1]
    if texts.category is None:
        return [""] * len(first)
    return [mapped.get(str(c), str(c) if str(c) in BY_ID else "") for c in texts.category[first]]


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        theirs, _, ours = pair.rpartition("=")
        if not theirs or ours not in BY_ID:
            raise InputError(
                f"--category {pair!r}: write THEIRS=OURS with one of {', '.join(BY_ID)}"
            )
        found[theirs] = ours
    return found


def _licence(licences: Sequence[str], i: int) -> dict[str, str]:
    return {"licence": plain(licences[i])} if licences else {}


def _command_line(
    data: Sequence[str], target: str, columns: Sequence[str], given: dict[str, Any]
) -> str:
    """Write the command again, without folders."""
    words = ["tocsin train", *(shlex.quote(Path(name).name) for name in data)]
    words.append(f"--out {shlex.quote(Path(target).name)}")
    for flag, values in (
        ("--task", [given["task"]]),
        ("--steps", [given["steps"]]),
        ("--column", columns),
        ("--category", given["categories"]),
        ("--over-refusal", [given["over_refusal"]] if given["over_refusal"] else []),
        ("--licence", given["licences"]),
        ("--notes", [given["notes"]] if given["notes"] else []),
        ("--bits", [str(given["bits"])]),
        ("--hold-out", [str(given["share"])] if given["share"] else []),
        ("--seed", [str(given["seed"])]),
    ):
        words += [f"{flag} {shlex.quote(value)}" for value in values]
    return plain(" \\\n  ".join([*words, *(["--observations"] if given["observations"] else [])]))


# ------------------------------------------------------------------------------------- what it says


def _show(target: str, digest: str, card: dict[str, Any], share: float) -> None:
    console = out()
    n, unsafe = (sum(d[name] for d in card["data"]) for name in ("trajectories", "unsafe"))
    held = f"; {share:.0%} of the groups are held out" if share else ""
    console.print(f"Learned from {n} trajectories, {unsafe} of them unsafe{held}.", markup=False)
    inside = card["in_domain"]
    console.print(table(
        "AUC out of fold, groups kept together (a safe one scores higher than an unsafe one)",
        ["score", "AUC"],
        [[name, number(value)] for name, value in (
            ("first", inside["first"]), ("lowest", inside["min"]), ("last", inside["last"]),
            ("lowest after a safe beginning", card["late"]),
        )],
    ))  # fmt: skip
    across = card["across_sources"]
    if across is not None:
        console.print(table(
            "AUC of the lowest score within sources",
            ["sources", "AUC"],
            [["learned from", number(across["seen"])], ["not seen", number(across["unseen"])]],
        ))  # fmt: skip
    if card["categories"]:
        console.print(table(
            "Harm categories",
            ["category", "unsafe", "AUC against safe"],
            [[c["category"], str(c["unsafe"]), number(c["auc_against_safe"])]
             for c in card["categories"]],
        ))  # fmt: skip
    found = card["calibration"]
    console.print(
        f"Probabilities: Brier {found['brier']:.4f} (of the share alone "
        f"{found['brier_of_share']:.4f}), calibration error {found['ece']:.4f}.", markup=False
    )  # fmt: skip
    refusal = card["over_refusal"]
    if refusal is not None:
        console.print(
            f"Over-refusal: {refusal['flagged']:.1%} of {refusal['trajectories']} safe answers to "
            f"harmless prompts are flagged at {refusal['threshold']:.4f}.", markup=False
        )  # fmt: skip
    console.print(f"Written {plain(target)}, digest {digest[:16]}.", markup=False)
    console.print(
        f"next: tocsin score FRESH --verifier linear:{plain(target)} --out scored.parquet, where "
        "FRESH has none of these groups",
        markup=False,
        soft_wrap=True,
    )
