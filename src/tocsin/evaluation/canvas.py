"""The drawing surface of the figures: settings of our own, text in inches, names made harmless.

matplotlib is loaded only when something is drawn, and never through pyplot. The user's own
matplotlib settings are set aside while a picture is drawn, so two threads should not draw at once.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tocsin.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]

_DPI = 144
SMALL, PLAIN, LARGE = 8.0, 9.0, 10.5  # points
INK, MUTED, RULE, FORBIDDEN = "#1a1a1a", "#5c5c5c", "#d9d9d9", "#f6e3dd"


def library(name: str) -> Any:
    """Import a part of matplotlib, or say which extra is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra("drawing needs matplotlib: pip install 'tocsin[plot]'") from None


@contextmanager
def drawing() -> Iterator[Figure]:
    """Yield an empty figure under settings of our own, and restore the user's afterwards."""
    style = library("matplotlib.style")
    ours = {
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": SMALL,
        "svg.fonttype": "none",
        "svg.hashsalt": "tocsin",
        "text.color": INK,
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    }
    with style.context(["default", ours]), warnings.catch_warnings():
        # A script that the font lacks: boxes in a PNG, the reader's own font in an SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure: Figure = library("matplotlib.figure").Figure(figsize=(8.0, 6.0), dpi=_DPI)
        library("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
        yield figure


def picture(figure: Figure, kind: Format) -> bytes:
    """Return the bytes of a finished figure."""
    if kind not in ("png", "svg"):
        raise InputError(f"unknown format {kind!r}; choose from png, svg")
    out = io.BytesIO()
    # Neither the time of drawing nor the version of matplotlib is part of the picture.
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": "tocsin"}
    figure.savefig(out, format=kind, dpi=_DPI, metadata=metadata)
    return out.getvalue()


def shift(figure: Figure, axes: Axes, points: float) -> Any:
    """Data coordinates moved to the right by so many points."""
    moved = library("matplotlib.transforms").ScaledTranslation(
        points / 72.0, 0.0, figure.dpi_scale_trans
    )
    return axes.transData + moved


def write(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    """Write at a place in inches from the lower left corner."""
    figure.text(x, y, text, transform=figure.dpi_scale_trans, **how)


def inches(figure: Figure, text: str, **how: Any) -> float:
    """How wide a text would be."""
    trial = figure.text(0.0, 0.0, text, **how)
    box = trial.get_window_extent(renderer_of(figure))
    trial.remove()
    return float(box.width) / figure.dpi


def shown(figure: Figure, text: str, longest: float, **how: Any) -> str:
    """Return a name from the data, cut to so many inches, with what does not print escaped."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    if len(shown) > 200:
        shown = shown[:200] + "…"
    while len(shown) > 1 and inches(figure, shown, **how) > longest:
        shown = shown.removesuffix("…")[:-1] + "…"
    return shown


def renderer_of(figure: Figure) -> Any:
    """Return what measures text."""
    return figure.canvas.get_renderer()  # type: ignore[attr-defined] # FigureCanvasAgg has it


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    w, h = figure.get_size_inches()
    axes = figure.add_axes((left / w, bottom / h, width / w, height / h))
    axes.tick_params(length=2.5, width=0.7, pad=2.5)
    return axes
