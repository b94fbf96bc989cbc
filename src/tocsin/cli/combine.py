"""`tocsin combine`, and what it shares with `tocsin cascade`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tocsin import __version__
from tocsin.cli import options
from tocsin.cli.terminal import err, json_bytes, number, out, plain, table
from tocsin.durable import write_whole
from tocsin.errors import InputError
from tocsin.evaluation.writing import check_place, is_utf8
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.contract import AnyVerifier, Declaration

if TYPE_CHECKING:
    from tocsin.verifiers.fusion import FusionFile
    from tocsin.verifiers.fusion_fit import Scored


_OPTIONS = (
    click.option("--steps", metavar="DEFINITION",
                 help="What a step is; what the members take it to be by default."),
    click.option("--layout", default="auto", show_default=True, help="Layout of DATA."),
    click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
                 help="Name of one of our columns in the file; may be repeated."),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0),
                 help="Of the division of the groups."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)  # fmt: skip


def fusion_options(f: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take."""
    for option in reversed(_OPTIONS):
        f = option(f)
    return f


@click.command("combine", short_help="Fit several verifiers into one.")
@click.argument("data")
@click.option(
    "--score",
    "pairs",
    multiple=True,
    required=True,
    metavar="COLUMN=SPEC",
    help="A column of DATA and the verifier that gave it, such as score_b=remote:guard.toml; "
    "at least twice.",
)
@click.option("--out", "target", required=True, metavar="FILE", help="Write the verifier here.")
@fusion_options
def command(data: str, pairs: tuple[str, ...], target: str, steps: str | None, layout: str,
            columns: tuple[str, ...], seed: int, *, as_json: bool) -> None:  # fmt: skip
    """Fit one verifier on the scores of several, in the labelled trajectories in DATA.

    The result is read as `combined:FILE`. Calibrate it on other data: DATA has been fitted on.
    """
    from tocsin.verifiers.fusion import members_of, to_json
    from tocsin.verifiers.fusion_fit import fit_combined

    check_place(target, data)
    split = [column_and_spec("--score", pair) for pair in pairs]
    definition, made = opened(data, [spec for _, spec in split], steps)
    found = read_scored(data, [column for column, _ in split], made, layout, columns)
    file = fit_combined(
        found,
        members_of([spec for _, spec in split], made),
        steps=str(definition),
        seed=seed,
        library_version=__version__,
    )
    write_whole(target, to_json(file))
    if as_json:
        click.echo(json_bytes({"written": target, "version": file.version(), "file": file}))
        return
    weights = ["", *(number(w) for w in file.model.weights)]
    rows = [
        [name, weights.pop(1) if len(weights) > 1 else "", number(area)]
        for name, area in file.held_out.items()
    ]
    out().print(table("AUC of the lowest score, on groups held out", ["", "weight", "AUC"], rows))
    conclude(file, "combined", target, data)


def column_and_spec(option: str, text: str) -> tuple[str, str]:
    """Take ``COLUMN=SPEC`` apart."""
    column, equals, spec = text.partition("=")
    if not (column and equals and spec):
        raise InputError(f"{option} {text!r}: write COLUMN=SPEC, such as score_b=linear:mine.json")
    if not is_utf8(text):
        raise InputError(f"{option} {text!r}: it is not UTF-8, and could not be written down")
    return column, spec


def opened(
    data: str, specs: Sequence[str], steps: str | None
) -> tuple[StepDefinition, list[AnyVerifier]]:
    """Open the members, to learn who they are; steps are those of the data where not given."""
    from tocsin.evaluation.identity import read_identity
    from tocsin.verifiers.fusion import open_members

    said = steps or read_identity(data).get("step_definition")
    return open_members(specs, None if said is None else StepDefinition.parse(said))


def read_scored(
    data: str,
    names: Sequence[str],
    made: Sequence[AnyVerifier],
    layout: str,
    columns: tuple[str, ...],
) -> Scored:
    """Read one column of scores for each member."""
    from tocsin.verifiers.fusion_fit import scored

    for name, one in zip(names, made, strict=True):
        _check_identity(data, name, one.declares)
    read: dict[str, Any] = {"segment_column": None, "scores": None}
    return scored(
        [options.read_data(data, layout, columns, name, **read) for name in names],
        [one.declares for one in made],
    )


def _check_identity(data: str, column: str, declares: Declaration) -> None:
    """Refuse a column of which the file says that another verifier gave it."""
    from tocsin.evaluation.identity import read_identity

    signal = declares.signal()
    for field, said in read_identity(data, column).items():
        ours = getattr(signal, field)
        if said != ours:
            raise InputError(
                f"{data}: its column {column!r} is of {field} {said!r}, and {declares.name} now "
                f"is {ours!r}; score the data again"
            )


def conclude(file: FusionFile, kind: str, target: str, data: str) -> None:
    """Say what was fitted on what, where it is and what it must not be used for."""
    told = file.data
    out().print(
        f"{told.n} trajectories ({told.n_safe} safe) in {told.n_groups} groups, "
        f"{told.steps - told.steps_left_out} of {told.steps} steps; {file.version()}",
        markup=False,
        soft_wrap=True,
    )
    out().print(f"written to {plain(target)}: {kind}:{plain(target)}", markup=False, soft_wrap=True)
    err().print(
        f"calibrate on other groups than those in {plain(data)}: the fit has seen their labels",
        markup=False,
        soft_wrap=True,
    )
