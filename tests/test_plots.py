"""Figures: sound bytes, the same twice, with every name in them, for sparse and hostile reports."""

import math
import struct
import sys
from collections.abc import Callable
from typing import Any
from xml.dom import minidom

import msgspec
import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl

from tocsin.errors import InputError, MissingExtra
from tocsin.evaluation import canvas, plots
from tocsin.evaluation.evaluate import Report, Row, SegmentRate
from tocsin.evaluation.plots import MONITORS, render
from tocsin.evaluation.roster import NAMES
from tocsin.model import Risk

LEVELS = (0.05, 0.1, 0.2)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def row(monitor: str, epsilon: float, **changed: Any) -> Row:
    rate = 0.02 * (1 + NAMES.index(monitor) % 4)
    values: dict[str, Any] = {
        name: math.nan for name in Row.__struct_fields__ if name.endswith(("_mean", "_sd"))
    }
    values |= {"far_mean": 0.8 * epsilon, "far_p10": 0.6 * epsilon, "far_p90": 1.1 * epsilon}
    values |= {"power_mean": 0.5 + rate, "power_p10": 0.4, "power_p90": 0.7}
    values |= {"delay_tokens_mean": 0.4, "delay_tokens_p10": 0.3, "delay_tokens_p90": 0.5}
    values |= {"violation_rate": 0.0, "violation_nominal": 0.1, "refused_rate": 0.0, "chosen": {}}
    values |= {"statistic": "min_score", "bound": "exact", "risk": "false_alarm", "delta": 0.1}
    values |= {"splits": 7, "n_calibration": 90.0, "monitor": monitor, "epsilon": epsilon}
    return Row(**values | changed)


REFUSED: dict[str, Any] = {
    "refused_rate": 1.0,
    "far_mean": 0.0,
    "far_p10": 0.0,
    "far_p90": 0.0,
    "power_mean": 0.0,
    "power_p10": 0.0,
    "power_p90": 0.0,
    "delay_tokens_mean": math.nan,
    "delay_tokens_p10": math.nan,
    "delay_tokens_p90": math.nan,
}


def report(
    rows: list[Row] | None = None,
    segments: list[SegmentRate] | None = None,
    data: dict[str, Any] | None = None,
) -> Report:
    return Report(
        results=[row(m, e) for m in NAMES for e in LEVELS] if rows is None else rows,
        segments=segments or [],
        setting={},
        data={"n": 1234} if data is None else data,
        library_version="0",
    )


def png_size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(SIGNATURE)
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def words(picture: bytes) -> list[str]:
    """Every piece of text in an SVG, in order."""
    found = minidom.parseString(picture).getElementsByTagName("text")  # noqa: S318 - ours
    return ["".join(getattr(part, "data", "") for part in text.childNodes) for text in found]


def svg(reports: dict[str, Report], **how: Any) -> list[str]:
    return words(render(reports, format="svg", **how))


def missed(found: Report) -> Report:
    other: Risk = "missed_detection"
    rows = [msgspec.structs.replace(r, risk=other) for r in found.results]
    return msgspec.structs.replace(found, results=rows)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_png_has_a_size_fit_for_a_page(columns: int) -> None:
    width, height = png_size(render({f"data {i}": report() for i in range(columns)}))
    assert 600 <= width <= 1250 and 800 <= height <= 1100
    if columns == 3:
        assert width >= 1150


def test_an_svg_is_text_and_names_what_it_shows() -> None:
    found = svg({"maths": report(), "chess": report(data={})})
    assert {"maths", "chess", *MONITORS} <= set(found)
    assert not set(NAMES) - set(MONITORS) & set(found)
    assert "1,234 trajectories, 7 splits" in found and "7 splits" in found
    assert {"False-alarm rate", "Power", "Detection delay", "share of the safe"} <= set(found)
    assert not any("refused" in text for text in found)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_reports_give_equal_bytes(kind: canvas.Format) -> None:
    first = render({"a": report()}, format=kind)
    assert first == render({"a": report()}, format=kind)
    assert b"dc:date" not in first


def test_the_settings_of_the_user_change_nothing_and_stay() -> None:
    plain = render({"a": report()}, format="svg")
    with mpl.rc_context({"font.size": 30.0, "svg.hashsalt": "mine", "axes.grid": True}):
        assert render({"a": report()}, format="svg") == plain
        assert mpl.rcParams["font.size"] == 30.0
        assert mpl.rcParams["svg.hashsalt"] == "mine"


def test_pyplot_is_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    png_size(render({"a": report()}))


def test_the_monitors_asked_for_are_drawn_in_the_order_of_the_roster() -> None:
    found = svg({"a": report()}, monitors=["auto_saved", "min_exact", "min_exact"])
    assert [text for text in found if text in NAMES] == ["min_exact", "auto_saved"]


def test_all_monitors_fit() -> None:
    found = svg({"a": report()}, monitors=NAMES)
    assert set(NAMES) <= set(found)
    png_size(render({"a": report()}, monitors=NAMES))


def test_every_monitor_of_the_roster_has_a_look_of_its_own() -> None:
    assert set(plots._LOOKS) == set(NAMES)
    assert len({marker for _, _, marker in plots._LOOKS.values()}) == len(NAMES)
    assert len({(colour, str(dashes)) for colour, dashes, _ in plots._LOOKS.values()}) == len(NAMES)


def test_refusals_are_drawn_and_explained() -> None:
    rows = [row("auto", 0.05, **REFUSED), row("auto", 0.1), row("auto", 0.2, refused_rate=0.3)]
    found = svg({"a": report(rows)})
    assert "open, at 0: refused in all splits" in found
    assert any(text.startswith("open: refused in some splits") for text in found)


def markers(axes: Any) -> list[tuple[float, float, bool]]:
    """Every (epsilon, value, hollow) that is marked in a panel."""
    return [
        (
            float(line.get_xdata()[0]),
            round(float(line.get_ydata()[0]), 9),
            line.get_mfc() == "white",
        )
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
    ]


def panels(rows: list[Row]) -> list[Any]:
    with canvas.drawing() as figure:
        plots._draw(figure, plots._scene({"a": report(rows)}, None))
        return list(figure.axes)


def test_a_refused_cell_is_an_open_marker_at_zero_outside_the_line() -> None:
    far, power, delay = panels(
        [row("auto", 0.05, **REFUSED), row("auto", 0.1), row("auto", 0.2, refused_rate=0.3)]
    )
    assert sorted(markers(far)) == [
        (0.05, 0.0, True),
        (0.1, 0.08, False),
        (0.2, 0.16, True),
    ]
    assert min(markers(power)) == (0.05, 0.0, True)
    assert [x for x, _, _ in markers(delay)] == [0.1, 0.2]
    line = next(ln for ln in far.lines if len(ln.get_xdata()) == 3)
    assert math.isnan(line.get_ydata()[0])


def test_where_missed_detections_are_bounded_a_refusal_is_no_broken_promise() -> None:
    risk: Risk = "missed_detection"
    rows = [row("auto", 0.3, risk=risk, **REFUSED), row("auto", 0.4, risk=risk, power_mean=0.75)]
    rate, _, _ = panels(rows)
    assert sorted(markers(rate)) == [(0.3, 0.0, True), (0.4, 0.25, False)]


def test_everything_refused_still_gives_a_figure() -> None:
    found = svg({"a": report([row(m, e, **REFUSED) for m in MONITORS for e in LEVELS])})
    assert "nothing detected" in found


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_an_unknown_delay_interrupts_the_line(gap: int) -> None:
    unknown = {k: v for k, v in REFUSED.items() if k.startswith("delay")}
    rows = [row("auto", e, **(unknown if i == gap else {})) for i, e in enumerate(LEVELS)]
    delay = panels(rows)[2]
    assert [x for x, _, _ in markers(delay)] == [e for i, e in enumerate(LEVELS) if i != gap]
    png_size(render({"a": report(rows)}))


def test_delay_unknown_everywhere() -> None:
    unknown = {k: v for k, v in REFUSED.items() if k.startswith("delay")}
    assert "nothing detected" in svg({"a": report([row("auto", e, **unknown) for e in LEVELS])})


def test_one_epsilon_puts_the_monitors_side_by_side() -> None:
    rows = [row(m, 0.1) for m in MONITORS]
    found = svg({"a": report(rows), "b": report([row("auto", 0.1, **REFUSED), *rows[:5]])})
    assert found.count("0.1") >= 2
    assert {"bar: 10–90 % of splits", "open, at 0: refused in all splits"} <= set(found)
    far = panels(rows)[0]
    marked = [line for line in far.lines if line.get_marker() != "None"]
    places = {round(float(ln.get_transform().transform((0.1, 0.1))[0])) for ln in marked}
    assert len(places) == len(MONITORS)


def test_close_epsilons_do_not_crowd_the_axis() -> None:
    assert plots._ticks((0.02, 0.03, 0.05, 0.1, 0.3), 0.318) == [0.05, 0.1, 0.3]
    assert plots._ticks((0.1,), 0.2) == [0.1]


def test_missed_detections_have_their_own_first_row() -> None:
    found = svg({"a": missed(report())})
    assert "Missed-detection rate" in found and "Power" not in found
    assert "False-alarm rate" in found and "ε, the missed-detection rate promised" in found
    assert "auto" in found and "evaluator_pac" not in found


def test_reports_of_two_risks_do_not_share_a_figure() -> None:
    with pytest.raises(InputError, match="figures of their own"):
        render({"a": report(), "b": missed(report())})


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: render({}), "0 reports"),
        (lambda: render({str(i): report() for i in range(13)}), "13 reports"),
        (lambda: render({"a": report([])}), "no monitor to draw"),
        (lambda: render({"a": report()}, monitors=[]), "no monitor to draw"),
        (lambda: render({"a": report()}, monitors=["nobody"]), "unknown monitor 'nobody'"),
        (
            lambda: render({"a": report([row("auto", 0.1)])}, monitors=["min_exact"]),
            "no report holds the monitor 'min_exact'",
        ),
        (lambda: render({"a": report()}, format="gif"), "unknown format 'gif'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw()


@pytest.mark.parametrize(
    "name",
    [
        "$\\frac{1}$",
        "_hidden",
        "a\x00b\x1b[31m",
        "<b>&amp;</b>",
        "\ud800",
        "数学",
        "",
        "\u202eevil",
    ],
)
def test_hostile_names_are_text_and_nothing_else(name: str) -> None:
    for found in (svg({name: report()}),):
        assert all(text.isprintable() for text in found)
        if name and name.isprintable():
            assert name in found
    png_size(render({name: report()}))


def test_long_names_are_cut() -> None:
    found = svg({"long " * 1000: report()})
    assert any(text.startswith("long long") and text.endswith("…") for text in found)
    assert max(map(len, found)) < 100


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.style", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"drawing needs matplotlib.*tocsin\[plot\]"):
        render({"a": report()})
