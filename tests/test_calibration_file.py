"""
The promise: a calibration file gives back what was saved, or says why it cannot be trusted.

It is named by a digest of its content, so no change of a value survives; it is refused when it was
made for something else; and a signature, where one is asked for, is by the key that is trusted.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import (
    CalibrationDamaged,
    CalibrationMismatch,
    InputError,
    MissingExtra,
    TocsinError,
)
from tocsin.limits import CALIBRATION_BYTES_MAX
from tocsin.model import Signal
from tocsin.risk.calibrate import calibrate
from tocsin.risk.calibration import (
    SCHEMA,
    Calibration,
    check_match,
    content_digest,
    from_json,
    seal,
    to_json,
)
from tocsin.risk.plan import Plan
from tocsin.risk.signature import sign, verify
from tocsin.testing import worlds


def made(**choices: Any) -> Calibration:
    data = worlds.trajectories(300, 0.4, np.random.default_rng(0))
    data = data.with_segments(["odd" if i % 2 else "even" for i in range(data.n)])
    got = calibrate(data, Plan(**choices), library_version="test")
    assert isinstance(got, Calibration)
    return got


SMALL = made(
    statistic="min_score", epsilons=(0.001, 0.1, 0.2), signal=Signal(verifier="v", kind="real")
)
"""Two certificates, a refusal, two segments and a curve."""


def with_threshold(value: float, *, segment: float | None = None) -> Calibration:
    """SMALL with another threshold everywhere, sealed again."""
    certificates = [
        msgspec.structs.replace(
            c,
            members=tuple(msgspec.structs.replace(m, threshold=value) for m in c.members),
            segments=tuple(
                msgspec.structs.replace(s, threshold=value if segment is None else segment)
                for s in c.segments
            ),
        )
        for c in SMALL.certificates
    ]
    return seal(msgspec.structs.replace(SMALL, certificates=tuple(certificates)))


# --------------------------------------------------------------------------------- the round trip


@pytest.mark.parametrize(
    "choices",
    [
        {"statistic": "min_score"},
        {"statistic": "auto"},
        {"statistic": "per_step_quantile", "closing": True},
        {"statistic": "ewma", "bound": "crc", "per_segment": True},
        {"statistic": "min_score", "risk": "both", "epsilons": (0.3,)},
        {"statistic": "min_score", "epsilons": (0.01, 0.1, 0.3), "simultaneous": True},
        {"statistic": "min_score", "risk": "missed_detection", "missing": "worst"},
    ],
    ids=str,
)
def test_what_is_read_equals_what_was_written(choices: dict[str, Any]) -> None:
    calibration = made(**choices)
    raw = to_json(calibration)
    back = from_json(raw)
    assert back == calibration
    assert to_json(back) == raw
    assert content_digest(back) == back.digest == calibration.digest
    assert [type(s) for s in back.statistics] == [type(s) for s in calibration.statistics]


@pytest.mark.parametrize("value", [math.inf, -math.inf, 5e-324, -1.7976931348623157e308, -0.0])
def test_any_threshold_that_is_a_number_survives_exactly(value: float) -> None:
    back = from_json(to_json(with_threshold(value)))
    for certificate in back.certificates:
        numbers = [certificate.threshold, *(s.threshold for s in certificate.segments)]
        assert [math.copysign(1.0, x) for x in numbers] == [math.copysign(1.0, value)] * 3
        assert numbers == [value] * 3


def test_the_file_is_plain_json_with_one_field_a_line_and_no_infinity_outside_text() -> None:
    raw = to_json(with_threshold(math.inf))

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    fields = json.loads(raw, parse_constant=refuse)
    assert fields["schema"] == SCHEMA
    assert fields["certificates"][0]["members"][0]["threshold"] == "Infinity"
    assert raw.count(b"\n") == len(fields) + 2


def test_the_layout_of_the_file_is_free() -> None:
    fields = json.loads(to_json(SMALL))
    for text in (json.dumps(fields), json.dumps(fields, indent=4, sort_keys=True)):
        assert from_json(text.encode()) == SMALL


# -------------------------------------------------------------------------------------- tampering


Path = tuple[str | int, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, (*path, i))
    else:
        yield path, value


def others(value: Any) -> list[Any]:
    """Values that are not this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, -value - 1]
    if isinstance(value, float):
        return [math.nextafter(value, math.inf), value + 1.0, -value - 1.0, None, "NaN", "Infinity"]
    if isinstance(value, str):
        return [value + "x", value[1:] or "y", None]
    return [0, 0.5, "x"]


def changed(raw: bytes, path: Path, value: Any) -> bytes:
    fields = json.loads(raw)
    inner = fields
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(fields).encode()


def test_every_single_changed_value_is_refused() -> None:
    raw = to_json(SMALL)
    found = [leaf for leaf in leaves(json.loads(raw)) if leaf[0] != ("signature",)]
    assert len(found) > 200
    for path, value in found:
        for other in others(value):
            with pytest.raises(CalibrationDamaged):
                pytest.fail(f"{path}: {from_json(changed(raw, path, other))}")


def test_changed_values_of_fitted_statistics_are_refused() -> None:
    raw = to_json(made(statistic="posterior"))
    found = [leaf for leaf in leaves(json.loads(raw)) if leaf[0][0] == "statistics"]
    assert len(found) > 1_000
    for path, value in found[:: len(found) // 40]:
        with pytest.raises(CalibrationDamaged):
            from_json(changed(raw, path, others(value)[0]))


def test_every_removed_or_added_field_is_refused() -> None:
    raw = to_json(SMALL)
    fields = json.loads(raw)
    for name in fields:
        if name == "signature":
            continue
        with pytest.raises(CalibrationDamaged):
            from_json(json.dumps({k: v for k, v in fields.items() if k != name}).encode())
    with pytest.raises(CalibrationDamaged, match="unknown field"):
        from_json(json.dumps({**fields, "extra": 1}).encode())
    fields["certificates"][0]["members"][0]["extra"] = 1
    with pytest.raises(CalibrationDamaged, match="unknown field"):
        from_json(json.dumps(fields).encode())


@given(st.data())
def test_no_changed_byte_changes_what_is_loaded(data: st.DataObject) -> None:
    raw = bytearray(to_json(SMALL))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        back = from_json(bytes(raw))
    except CalibrationDamaged:
        return
    assert back == SMALL


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_damaged(raw: bytes) -> None:
    for text in (raw, b'{"schema": "' + raw + b'"}', to_json(SMALL)[: len(raw)] + raw):
        with pytest.raises(CalibrationDamaged):
            from_json(text)


@pytest.mark.parametrize("keep", [0, 1, 2, 100, 0.5, -2])
def test_a_truncated_file_is_refused(keep: float) -> None:
    raw = to_json(SMALL)
    with pytest.raises(CalibrationDamaged):
        from_json(raw[: int(len(raw) * keep) if keep == 0.5 else int(keep)])


def test_deep_nesting_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for raw in (
        deep,
        b'{"schema": "' + SCHEMA.encode() + b'", "extra": ' + deep + b"}",
        b'{"extra": ' + deep + b', "schema": "' + SCHEMA.encode() + b'"}',
    ):
        with pytest.raises(CalibrationDamaged):
            from_json(raw)


def test_another_schema_is_refused_by_name() -> None:
    with pytest.raises(CalibrationDamaged, match=r"schema 'tocsin.calibration/2' is not"):
        from_json(to_json(SMALL).replace(SCHEMA.encode(), b"tocsin.calibration/2"))


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    raw = to_json(SMALL)
    padded = raw + b" " * (CALIBRATION_BYTES_MAX - len(raw))
    assert from_json(padded) == SMALL
    with pytest.raises(CalibrationDamaged, match=f"more than {CALIBRATION_BYTES_MAX}"):
        from_json(padded + b" ")


@pytest.mark.parametrize(("value", "segment"), [(math.nan, 0.0), (0.0, math.nan)])
def test_a_threshold_that_is_no_number_is_refused_even_under_its_own_digest(
    value: float, segment: float
) -> None:
    """It would compare false with everything and never alarm."""
    fields = json.loads(to_json(with_threshold(value, segment=segment)))
    for certificate in fields["certificates"]:
        for row in (*certificate["members"], *certificate["segments"]):
            row["threshold"] = "NaN" if row["threshold"] is None else row["threshold"]
    with pytest.raises(CalibrationDamaged, match=r"has no threshold \(NaN\)"):
        from_json(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {"certificates": ()}, "holds no certificate"),
        (lambda c: {"statistics": ()}, "names no statistic of this file"),
        (
            lambda c: {"certificates": (msgspec.structs.replace(c.certificates[0], chosen=7),)},
            "chooses no member",
        ),
        (
            lambda c: {"certificates": (msgspec.structs.replace(c.certificates[0], chosen=-1),)},
            "chooses no member",
        ),
    ],
)
def test_places_that_do_not_exist_are_refused_even_under_their_own_digest(
    change: Callable[[Calibration], dict[str, Any]], words: str
) -> None:
    odd = seal(msgspec.structs.replace(SMALL, **change(SMALL)))
    with pytest.raises(CalibrationDamaged, match=words):
        from_json(to_json(odd))


def test_the_digest_covers_everything_but_itself_and_the_signature() -> None:
    for name in Calibration.__struct_fields__:
        value = getattr(SMALL, name)
        other = msgspec.structs.replace(SMALL, **{name: "x" if value is None else None})
        covered = name not in {"digest", "signature"}
        assert (content_digest(other) != SMALL.digest) == covered, name


# ------------------------------------------------------------------------------ made for something


EXPECTED: dict[str, str | None] = {
    "kind": "real",
    "verifier": "v",
    "verifier_version": "unspecified",
    "step_definition": "unspecified",
    "missing": "error",
    "digest": SMALL.digest,
}


def test_a_calibration_matches_what_it_was_made_for() -> None:
    check_match(SMALL, EXPECTED)
    check_match(SMALL, {})
    check_match(SMALL, dict.fromkeys(EXPECTED))


@pytest.mark.parametrize("name", EXPECTED)
def test_each_mismatch_is_named(name: str) -> None:
    with pytest.raises(CalibrationMismatch) as caught:
        check_match(SMALL, {**EXPECTED, name: "something else"})
    message = str(caught.value)
    assert f"{name} is {EXPECTED[name]!r}, expected 'something else'" in message
    assert message.count(", expected ") == 1


def test_all_mismatches_are_named_at_once() -> None:
    with pytest.raises(CalibrationMismatch) as caught:
        check_match(SMALL, dict.fromkeys(EXPECTED, "z"))
    assert all(f"{name} is" in str(caught.value) for name in EXPECTED)


def test_what_cannot_be_checked_is_an_error() -> None:
    with pytest.raises(InputError, match=r"cannot check \['colour'\]"):
        check_match(SMALL, {"colour": "red"})


def test_a_certificate_is_chosen_by_its_level_and_an_ambiguous_choice_lists_them() -> None:
    assert SMALL.certificate(0.1).epsilon == 0.1
    for epsilon in (None, 0.15, 0.001):
        with pytest.raises(InputError, match=r"false_alarm at epsilon = 0\.1, false_alarm"):
            SMALL.certificate(epsilon)
    with pytest.raises(InputError):
        SMALL.certificate(0.1, "missed_detection")


# -------------------------------------------------------------------------------------- signatures


def key_pair() -> tuple[bytes, bytes]:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    kind = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    return pem(serialization, kind.Ed25519PrivateKey.generate())


def pem(serialization: Any, key: Any) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


@pytest.fixture(scope="module")
def keys() -> tuple[bytes, bytes]:
    return key_pair()


def test_a_signed_file_is_verified_after_a_round_trip(keys: tuple[bytes, bytes]) -> None:
    private, public = keys
    signed = from_json(to_json(sign(SMALL, private)))
    verify(signed, public)
    assert signed.digest == SMALL.digest
    assert msgspec.structs.replace(signed, signature=None) == SMALL
    assert seal(signed).signature is None


def test_another_key_is_refused(keys: tuple[bytes, bytes]) -> None:
    with pytest.raises(CalibrationDamaged, match="not by this key"):
        verify(sign(SMALL, keys[0]), key_pair()[1])


def test_an_unsigned_file_is_refused_where_a_key_is_trusted(keys: tuple[bytes, bytes]) -> None:
    with pytest.raises(CalibrationMismatch, match="is not signed"):
        verify(SMALL, keys[1])


def test_an_altered_signature_is_refused(keys: tuple[bytes, bytes]) -> None:
    signed = sign(SMALL, keys[0])
    text = signed.signature
    assert text is not None
    swapped = "A" if text[20] != "A" else "B"
    altered = [
        "",
        "ed25519:",
        text[:-4],
        text[:20] + swapped + text[21:],
        text.replace("ed25519:", "ed448:"),
        text.removeprefix("ed25519:"),
        text + "\n",
        "ed25519:\u00e9",
    ]
    for other in altered:
        with pytest.raises(CalibrationDamaged, match="not by this key"):
            verify(msgspec.structs.replace(signed, signature=other), keys[1])


def test_a_signature_does_not_fit_other_content(keys: tuple[bytes, bytes]) -> None:
    signed = sign(SMALL, keys[0])
    other = msgspec.structs.replace(with_threshold(1.0), signature=signed.signature)
    assert from_json(to_json(other)) == other
    with pytest.raises(CalibrationDamaged):
        verify(other, keys[1])


def test_only_ed25519_keys_are_taken(keys: tuple[bytes, bytes]) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    private, public = pem(serialization, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InputError, match="no Ed25519 key"):
        sign(SMALL, private)
    with pytest.raises(InputError, match="no Ed25519 public key"):
        verify(sign(SMALL, keys[0]), public)
    for junk in (b"", b"junk", keys[1]):
        with pytest.raises(InputError, match="no unencrypted PEM private key"):
            sign(SMALL, junk)
    for junk in (b"", b"junk", keys[0]):
        with pytest.raises(InputError, match="no PEM public key"):
            verify(sign(SMALL, keys[0]), junk)


def test_an_encrypted_key_is_refused_in_words() -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    kind = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    locked = kind.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(InputError, match="no unencrypted PEM private key"):
        sign(SMALL, locked)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    for use in (sign, verify):
        with pytest.raises(MissingExtra, match=r"tocsin\[sign\]"):
            use(SMALL, b"")
    assert issubclass(MissingExtra, TocsinError)
