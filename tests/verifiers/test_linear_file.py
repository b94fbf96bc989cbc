"""Model files: whole, or refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verifiers.linear_worlds import model

from tocsin.errors import InputError
from tocsin.verifiers.linear.model_file import (
    Features,
    Head,
    Model,
    from_bytes,
    load,
    sealed,
    to_bytes,
)

RAW = to_bytes(model())


def head(name: str) -> Head:
    return Head(name=name, intercept=0.0, slope=1.0)


def changed(**fields: Any) -> bytes:
    made = model()
    header = msgspec.structs.replace(made.header, **fields)
    return to_bytes(sealed(Model(header, made.weights)))


def test_a_model_comes_back_as_it_was() -> None:
    back = from_bytes(RAW)
    assert back.header == model().header
    assert (back.weights == model().weights).all()
    assert to_bytes(back) == RAW


@settings(max_examples=200)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, by: int) -> None:
    damaged = bytearray(RAW)
    damaged[at] ^= by
    with pytest.raises(InputError):
        from_bytes(bytes(damaged))


@given(st.integers(0, len(RAW) - 1))
def test_a_cut_file_is_refused(size: int) -> None:
    with pytest.raises(InputError):
        from_bytes(RAW[:size])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    for start in (b"", b"TOCSINLM"):
        with pytest.raises(InputError):
            from_bytes(start + raw)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": "tocsin-linear/9"}, "schema 'tocsin-linear/9'"),
        ({"features": Features(orders=(5, 3), bits=10)}, "orders"),
        ({"features": Features(orders=(), bits=10)}, "orders"),
        ({"features": Features(orders=(3, 99), bits=10)}, "orders"),
        ({"features": Features(bits=30)}, "30 bits"),
        ({"features": Features(bits=10, block=1)}, "blocks of 1"),
        ({"features": Features(bits=11)}, "bytes of weights"),
        ({"heads": ()}, "no head"),
        ({"heads": (Head(name="violence", intercept=0.0, slope=1.0),)}, "no head"),
        (
            {"heads": (Head(name="", intercept=0, slope=1), head("fun"))},
            "'fun'",
        ),
        (
            {"heads": (Head(name="", intercept=0, slope=-1), head("sexual"))},
            "slope",
        ),
        ({"steps": "bananas"}, "step definition"),
    ],
)  # fmt: skip
def test_a_model_of_an_unknown_kind_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_bytes(changed(**fields))


def test_the_error_names_the_file(tmp_path: Path) -> None:
    place = tmp_path / "broken"
    place.write_bytes(RAW[:-1])
    with pytest.raises(InputError, match=r"broken.*train it again"):
        load(place)
    with pytest.raises(InputError, match=r"cannot read the model.*absent"):
        load(tmp_path / "absent")


def test_weights_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        from_bytes(RAW).weights[0] = np.int8(1)
