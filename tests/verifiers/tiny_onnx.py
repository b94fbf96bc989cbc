"""A text classifier small enough to write by hand: the mean of one row of logits for each token.

ONNX is a protobuf; the few messages that such a graph takes are encoded here, so that tests need no
package to make a model. Field numbers are those of onnx.proto, version 3 of the format.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

FLOAT, INT32, INT64 = 1, 6, 7
_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _node(op: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    names = b"".join(_bytes(1, name) for name in inputs)
    return names + _bytes(2, output) + _bytes(4, op) + b"".join(_bytes(5, a) for a in attributes)


def _value(name: str, kind: int, dims: Sequence[str | int]) -> bytes:
    shape = b"".join(
        _bytes(1, _bytes(2, dim) if isinstance(dim, str) else _number(1, dim)) for dim in dims
    )
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def model(
    table: Sequence[Sequence[float]],
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    input_kind: int = INT64,
) -> bytes:
    """Give a model whose logits are the mean over the tokens of `table[token]`."""
    width = len(table[0])
    weights = struct.pack(f"<{len(table) * width}f", *(x for row in table for x in row))
    tensor = _number(1, len(table)) + _number(1, width) + _number(2, FLOAT)
    tensor += _bytes(8, "table") + _bytes(9, weights)
    axes = _bytes(1, "axes") + _number(8, 1) + _number(20, _INTS_ATTRIBUTE)
    keep = _bytes(1, "keepdims") + _number(3, 0) + _number(20, _INT_ATTRIBUTE)
    graph = _bytes(1, _node("Gather", ("table", inputs[0]), "rows"))
    graph += _bytes(1, _node("ReduceMean", ("rows",), "logits", axes, keep))
    graph += _bytes(2, "tiny") + _bytes(5, tensor)
    for name in inputs:
        graph += _bytes(11, _value(name, input_kind, ("batch", "length")))
    graph += _bytes(12, _value("logits", FLOAT, ("batch", width)))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))


def tokenizer(words: Sequence[str]) -> str:
    """Give a tokenizer of whole words; 0 is the mark at both ends, 1 an unknown word."""
    vocabulary = {word: i for i, word in enumerate(("[END]", "[UNK]", *words))}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[END] $A [END]", special_tokens=[("[END]", 0)])
    return str(made.to_str())


def folder(
    path: Path,
    words: Mapping[str, Sequence[float]],
    settings: str,
    *,
    config: str = '{"id2label": {"0": "SAFE", "1": "BAD"}}',
) -> Path:
    """Write a folder with a model that gives each word its logits, all others zeros."""
    width = len(next(iter(words.values())))
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(
        model([[0.0] * width] * 2 + [list(r) for r in words.values()])
    )
    (path / "tokenizer.json").write_text(tokenizer(list(words)), encoding="utf-8")
    (path / "config.json").write_text(config, encoding="utf-8")
    (path / "tocsin.toml").write_text(settings, encoding="utf-8")
    return path
