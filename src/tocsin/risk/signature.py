"""An optional signature on a calibration: Ed25519 over its digest.

Keys are PEM, as `openssl genpkey -algorithm ed25519` writes them. The digest names the content, so
the signature covers all of it.
"""

from __future__ import annotations

import base64
import importlib
from typing import Any

import msgspec

from tocsin.errors import CalibrationDamaged, CalibrationMismatch, InputError, MissingExtra
from tocsin.risk.calibration import Calibration

_CONTEXT = b"tocsin.calibration/1\n"
_PREFIX = "ed25519:"


def sign(calibration: Calibration, private_key: bytes) -> Calibration:
    """Return the calibration with a signature.

    Args:
        calibration: sealed.
        private_key: PEM of an unencrypted Ed25519 private key.

    Raises:
        InputError: no such key.
        MissingExtra: the library `cryptography` is not installed.
    """
    serialization = _library("cryptography.hazmat.primitives.serialization")
    kind = _library("cryptography.hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey
    try:
        key = serialization.load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError) as e:
        raise InputError(f"the signing key is no unencrypted PEM private key: {e}") from None
    if not isinstance(key, kind):
        raise InputError("the signing key is no Ed25519 key: openssl genpkey -algorithm ed25519")
    raw: bytes = key.sign(_CONTEXT + calibration.digest.encode())
    return msgspec.structs.replace(
        calibration, signature=_PREFIX + base64.b64encode(raw).decode("ascii")
    )


def verify(calibration: Calibration, public_key: bytes) -> None:
    """Check the signature of a loaded calibration.

    Args:
        calibration: as loaded, so that its digest is known to name its content.
        public_key: PEM of the Ed25519 public key that is trusted.

    Raises:
        CalibrationMismatch: it carries no signature.
        CalibrationDamaged: the signature is not by this key over this content.
        InputError: no such key.
        MissingExtra: the library `cryptography` is not installed.
    """
    serialization = _library("cryptography.hazmat.primitives.serialization")
    kind = _library("cryptography.hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
    invalid = _library("cryptography.exceptions").InvalidSignature
    try:
        key = serialization.load_pem_public_key(public_key)
    except ValueError as e:
        raise InputError(f"the trusted key is no PEM public key: {e}") from None
    if not isinstance(key, kind):
        raise InputError("the trusted key is no Ed25519 public key")
    if calibration.signature is None:
        raise CalibrationMismatch("the calibration is not signed, and a trusted key was given")
    damaged = CalibrationDamaged("the signature is not by this key over this content")
    if not calibration.signature.startswith(_PREFIX):
        raise damaged
    try:
        raw = base64.b64decode(calibration.signature.removeprefix(_PREFIX), validate=True)
        key.verify(raw, _CONTEXT + calibration.digest.encode())
    except (ValueError, invalid):
        raise damaged from None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra("signing needs cryptography: pip install 'tocsin[sign]'") from None
