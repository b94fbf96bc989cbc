"""`tocsin cascade`."""

from __future__ import annotations

import click

from tocsin import __version__
from tocsin.cli.combine import column_and_spec, conclude, fusion_options, opened, read_scored
from tocsin.cli.terminal import err, json_bytes, number, out, percent, plain, table
from tocsin.durable import write_whole
from tocsin.evaluation.writing import check_place


@click.command("cascade", short_help="Ask a strong verifier where a cheap one is unsure.")
@click.argument("data")
@click.option("--cheap", required=True, metavar="COLUMN=SPEC", help="It judges every step.")
@click.option("--strong", required=True, metavar="COLUMN=SPEC", help="It judges escalated steps.")
@click.option(
    "--budget",
    type=float,
    default=0.1,
    show_default=True,
    help="Mean share of a response's steps that is escalated, at most.",
)
@click.option(
    "--delta",
    type=float,
    default=0.1,
    show_default=True,
    help="Probability that the budget fails over the draw of DATA.",
)
@click.option(
    "--burst",
    type=int,
    default=1,
    show_default=True,
    help="Escalations that one response may have beyond its share, whatever is written.",
)
@click.option("--out", "target", required=True, metavar="FILE", help="Write the verifier here.")
@fusion_options
def command(data: str, cheap: str, strong: str, *, budget: float, delta: float, burst: int,
            target: str, steps: str | None, layout: str, columns: tuple[str, ...], seed: int,
            as_json: bool) -> None:  # fmt: skip
    """Fit a cascade of two verifiers on their scores of the labelled trajectories in DATA.

    DATA has both scores of every step. The result is read as `cascade:FILE`. Calibrate it on other
    data: DATA has been fitted on.
    """
    from tocsin.verifiers.cascade import check_budget, spares
    from tocsin.verifiers.cascade_fit import fit_cascade
    from tocsin.verifiers.fusion import members_of, to_json

    check_budget(budget, burst)
    check_place(target, data)
    pairs = [column_and_spec("--cheap", cheap), column_and_spec("--strong", strong)]
    specs = [spec for _, spec in pairs]
    definition, made = opened(data, specs, steps)
    found = read_scored(data, [column for column, _ in pairs], made, layout, columns)
    file = fit_cascade(
        found,
        members_of(specs, made),
        steps=str(definition),
        budget=budget,
        burst=burst,
        delta=delta,
        seed=seed,
        library_version=__version__,
    )
    write_whole(target, to_json(file))
    if as_json:
        told = {"written": target, "version": file.version(), "spares": spares(made[1])}
        click.echo(json_bytes(told | {"file": file}))
        return
    rows = [[name, number(area)] for name, area in file.held_out.items()]
    out().print(table("AUC of the lowest score, on groups held out", ["", "AUC"], rows))
    low = "no end" if file.low is None else f"{file.low:g}"
    high = "no end" if file.high is None else f"{file.high:g}"
    out().print(
        f"band of cheap scores: {low} to {high}; it escalates {percent(file.share)} of a "
        f"response's steps, at most {percent(budget)} with probability {1 - delta:g}, and never "
        f"more than {file.burst} + {budget:g} x steps",
        markup=False,
        soft_wrap=True,
    )
    conclude(file, "cascade", target, data)
    if file.held_out["cascade"] <= file.held_out["random"]:
        err().print(
            "the band is no better than steps taken at random: the cheap verifier does not know "
            "where it is unsure",
            markup=False,
            soft_wrap=True,
        )
    if not spares(made[1]):
        err().print(
            f"{plain(made[1].declares.name)} cannot leave steps out: it will judge every step, and "
            "the cascade saves nothing",
            markup=False,
            soft_wrap=True,
        )
