"""Reading files: the same trajectories from every format, and an error that helps for each flaw."""

import csv
import gzip
import io
import logging
import os
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin import limits
from tocsin.errors import InputError, MissingExtra
from tocsin.evaluation import datasets, files
from tocsin.evaluation.datasets import describe, read, read_with_notes
from tocsin.risk.trajectories import from_columns

Rows = list[dict[str, Any]]


def rows() -> Rows:
    """Two trajectories of one group and one alone, with a missing score and an onset."""
    a = {"trajectory_id": "a", "label": 0, "onset_step": 2, "group": "g1", "segment": "maths"}
    b = {"trajectory_id": "b", "label": 1, "onset_step": -1, "group": "g1", "segment": "maths"}
    c = {"trajectory_id": "c", "label": 1, "onset_step": -1, "group": "g2", "segment": "chess"}
    return [
        {**a, "step": 1, "score": 0.9, "tokens": 3},
        {**a, "step": 2, "score": 0.2, "tokens": 5},
        {**b, "step": 1, "score": None, "tokens": 0},
        {**c, "step": 1, "score": 1e-300, "tokens": 7},
    ]


def columns(made: Rows) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for row in made for name in row))
    return {name: [row.get(name) for row in made] for name in names}


def write_csv(path: Path, made: Rows) -> Path:
    with io.StringIO(newline="") as text:
        writer = csv.DictWriter(text, list(columns(made)))
        writer.writeheader()
        writer.writerows(made)
        return write(path, text.getvalue())


def write_jsonl(path: Path, made: Rows) -> Path:
    return write(path, b"".join(msgspec.json.encode(row) + b"\n" for row in made))


def write_parquet(path: Path, made: Rows) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns(made)), path)
    return path


def write_npz(path: Path, made: Rows) -> Path:
    arrays = {
        name: np.array([np.nan if v is None else v for v in column])
        for name, column in columns(made).items()
    }
    save: Any = np.savez
    save(path, **arrays)
    return path


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


Writer = Callable[[Path, Rows], Path]
WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".csv.gz": write_csv,
    ".jsonl": write_jsonl,
    ".jsonl.gz": write_jsonl,
    ".parquet": write_parquet,
    ".npz": write_npz,
}


def refusal(path: Path, **options: Any) -> str:
    """What the reader says, which must begin with the file and be one printable line."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


# ------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_trajectories(suffix: str, tmp_path: Path) -> None:
    expected = from_columns(**columns(rows()))
    got = read(WRITERS[suffix](tmp_path / f"data{suffix}", rows()))
    assert got.digest() == expected.digest()
    assert got.tokens.tolist() == expected.tokens.tolist()
    assert got.onset.tolist() == expected.onset.tolist()
    assert got.segments.tolist() == expected.segments.tolist()
    assert got.has_groups and got.has_tokens


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_order_of_rows_does_not_matter(suffix: str, tmp_path: Path) -> None:
    forward = read(WRITERS[suffix](tmp_path / f"forward{suffix}", rows()))
    backward = read(WRITERS[suffix](tmp_path / f"backward{suffix}", rows()[::-1]))
    assert backward.digest() == forward.digest()
    assert backward.onset.tolist() == forward.onset.tolist()


_NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=8
)
_SCORES = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def any_rows(draw: st.DrawFn) -> Rows:
    made = []
    for name in draw(st.lists(_NAMES, min_size=1, max_size=5, unique=True)):
        whole = {
            "trajectory_id": name,
            "label": draw(st.integers(0, 1)),
            "group": draw(_NAMES),
            "segment": draw(_NAMES),
        }
        made += [
            {"step": step, "score": score, "tokens": draw(st.integers(0, 9)), **whole}
            for step, score in enumerate(draw(st.lists(_SCORES, min_size=1, max_size=4)), 1)
        ]
    return draw(st.permutations(made))


@given(any_rows())
def test_text_formats_keep_any_names_and_scores(
    tmp_path_factory: pytest.TempPathFactory, made: Rows
) -> None:
    folder = tmp_path_factory.mktemp("round")
    expected = from_columns(**columns(made))
    for suffix in (".csv", ".jsonl"):
        got = read(WRITERS[suffix](folder / f"data{suffix}", made))
        assert got.digest() == expected.digest()
        assert got.segments.tolist() == expected.segments.tolist()
        assert got.tokens.tolist() == expected.tokens.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_byte_order_mark_is_taken_off(suffix: str, tmp_path: Path) -> None:
    plain = WRITERS[suffix](tmp_path / f"plain{suffix}", rows())
    marked = write(tmp_path / f"marked{suffix}", b"\xef\xbb\xbf" + plain.read_bytes())
    assert read(marked).digest() == read(plain).digest()


def test_a_json_array_is_read_like_lines(tmp_path: Path) -> None:
    lines = write_jsonl(tmp_path / "lines.jsonl", rows())
    array = write(tmp_path / "array.jsonl", b"\xef\xbb\xbf\n" + msgspec.json.encode(rows()))
    assert read(array).digest() == read(lines).digest()


def test_columns_of_no_interest_are_ignored_and_may_hold_anything(tmp_path: Path) -> None:
    made: Rows = [{**row, "text": 'a\x1b[31m,\n"', "extra": {"a": [1]}} for row in rows()]
    for suffix in (".csv", ".jsonl", ".parquet"):
        got = read(WRITERS[suffix](tmp_path / f"data{suffix}", made))
        assert got.digest() == from_columns(**columns(rows())).digest()


def test_numbers_for_names_and_a_late_column_are_fine_in_json(tmp_path: Path) -> None:
    made = [
        {"trajectory_id": 7, "step": 1, "score": 0.5, "label": True},
        {"trajectory_id": 8, "step": 1, "label": False, "score": 0.1, "onset_step": 1},
    ]
    got = read(write_jsonl(tmp_path / "data.jsonl", made))
    assert got.ids.tolist() == ["7", "8"]
    assert got.safe.tolist() == [True, False]
    assert got.onset.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("safe", "unsafe"), [("1", "0"), ("true", "false"), ("True", "FALSE"), ("1.0", "0.0")]
)
def test_labels_may_be_written_as_numbers_or_truth(safe: str, unsafe: str, tmp_path: Path) -> None:
    text = f"trajectory_id,step,score,label\na,1,0.5,{safe}\nb,1,0.5,{unsafe}\n"
    assert read(write(tmp_path / "data.csv", text)).safe.tolist() == [True, False]


def test_labels_may_be_booleans_in_parquet(tmp_path: Path) -> None:
    made = [{**row, "label": bool(row["label"])} for row in rows()]
    assert (
        read(write_parquet(tmp_path / "data.parquet", made)).digest()
        == from_columns(**columns(rows())).digest()
    )


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NA", "null", "None"])
def test_the_words_for_a_missing_score_are_known(missing: str, tmp_path: Path) -> None:
    text = f"trajectory_id,step,score,label\na,1,{missing},1\n"
    assert np.isnan(read(write(tmp_path / "data.csv", text)).scores).tolist() == [True]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "int64"])
def test_parquet_names_may_have_any_type_of_text_or_number(kind: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names: Any = pa.array(["10", "10", "9"])
    names = names.dictionary_encode() if kind == "dictionary" else names.cast(getattr(pa, kind)())
    table = pa.table({
        "trajectory_id": pa.chunked_array([names.slice(0, 1), names.slice(1)]),
        "step": pa.array([1, 2, 1], pa.uint8()),
        "score": pa.array([0.5, None, 0.25], pa.float32()),
        "label": pa.array([1, 1, 0], pa.int8()),
        "source": pa.array([None, None, "s"]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=1)
    got = read(tmp_path / "data.parquet")
    assert got.ids.tolist() == ["10", "9"]
    assert got.scores.tolist()[0] == 0.5 and np.isnan(got.scores[1])
    assert got.segments.tolist() == ["", "s"]


# --------------------------------------------------------------------------------- choosing columns


def test_columns_and_shortcuts_choose_what_is_read(tmp_path: Path) -> None:
    text = "conv,turn,score_a,score_b,ok,model\nx,1,0.1,0.2,1,m1\nx,2,0.3,0.4,1,m1\n"
    path = write(tmp_path / "data.csv", text)
    names = {"trajectory_id": "conv", "step": "turn", "label": "ok"}
    first = read(path, columns={**names, "score": "score_a"}, segment_column="model")
    assert first.scores.tolist() == [0.1, 0.3] and first.segments.tolist() == ["m1"]
    assert read(path, columns=names, score_column="score_b").scores.tolist() == [0.2, 0.4]


def test_several_scores_and_no_choice_is_an_error_that_lists_them(tmp_path: Path) -> None:
    text = "trajectory_id,step,label,score_b,score_a\nx,1,1,0.1,0.2\n"
    path = write(tmp_path / "data.csv", text)
    assert refusal(path) == (
        "has no column 'score' but 'score_a', 'score_b': choose one with score_column='score_a' "
        "(--score-column on the command line)"
    )
    assert read(path, score_column="score_b").scores.tolist() == [0.1]


def test_the_source_is_the_segment_unless_there_is_one(tmp_path: Path) -> None:
    text = "trajectory_id,step,label,score,source{}\nx,1,1,0.1,from here{}\n"
    path = write(tmp_path / "data.csv", text.format("", ""))
    assert read(path).segments.tolist() == ["from here"]
    path = write(tmp_path / "data.csv", text.format(",segment", ",mine"))
    assert read(path).segments.tolist() == ["mine"]


def test_wishes_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", rows())
    message = refusal(path, columns={"score": "nope"})
    assert message.startswith("has no column 'nope', which was named for 'score'; it has 'traj")
    with pytest.raises(InputError, match="'scroe' is none of trajectory_id, step, score"):
        read(path, columns={"scroe": "score"})
    with pytest.raises(InputError, match="contradict each other"):
        read(path, columns={"score": "tokens"}, score_column="score")
    with pytest.raises(InputError, match="layout 'nope' is none of auto, tocsin, reference"):
        read(path, layout="nope")
    with pytest.raises(InputError, match="layout 'e-valuator' has no 'rating'"):
        read(path, layout="e-valuator", columns={"rating": "score"})
    with pytest.raises(InputError, match=r"layout 'fineharm' is made of \.npz arrays"):
        read(path, layout="fineharm")
    assert refusal(path, layout="reference").startswith(
        "layout 'reference' needs 'uq_problem_idx'; 'step_idx'; 'judge_probability'; "
        "'error_final_o3'"
    )
    assert "scores= belongs to layout 'red-team-attempts'" in refusal(path, scores=path)


def test_unknown_columns_are_listed_harmlessly_and_not_without_end(tmp_path: Path) -> None:
    header = ",".join(["a\x1b[31mb", *(f"c{i}" for i in range(100))])
    path = write(tmp_path / "data.csv", header + "\n" + "1," * 100 + "1\n")
    message = refusal(path)
    assert message.startswith("its columns are those of no known layout (tocsin, reference, ")
    assert "'a\\x1b[31mb', 'c0'" in message and "and 61 more" in message
    path = write(tmp_path / "data.csv", "trajectory_id,step,score\na,1,0.5\n")
    assert refusal(path).startswith("has no column 'label'; it has 'trajectory_id', 'step', 'sco")


# ------------------------------------------------------------------------------------- broken files


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "there is no such file"
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert refusal(folder) == "is a directory; name one file in it"
    assert refusal(write(tmp_path / "data.xlsx", "x")) == (
        "the name must end in one of .parquet, .csv, .csv.gz, .jsonl, .jsonl.gz, .npz"
    )
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    assert refusal(fifo) == "is no regular file; copy its content to one"


def test_a_hostile_file_name_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a\x1b[31m\n.csv")
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
    assert "a\\x1b[31m" in str(caught.value)


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_an_empty_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(b"")
    assert refusal(path).startswith("is empty; ")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", "trajectory_id,step,score,label\n", "has a header and no rows"),
        ("d.csv", "\n\n", "is empty; it needs a header"),
        ("d.jsonl", "\n\n", "holds no rows; it needs one JSON object per step"),
        ("d.jsonl", "[]", "holds no rows; it needs one JSON object per step"),
        ("d.csv.gz", "", "is empty; it needs a header"),
    ],
)
def test_a_file_without_rows_is_refused(name: str, content: str, said: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / name, content)).startswith(said)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv.gz", ".jsonl.gz"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.97])
def test_a_truncated_file_is_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    path = WRITERS[suffix](tmp_path / f"data{suffix}", rows())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    kind = suffix.removeprefix(".").replace("csv.gz", "gzip").replace("jsonl.gz", "gzip")
    assert f"is no complete {kind} file" in refusal(path)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv.gz"])
def test_a_file_of_another_format_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(b"trajectory_id,step,score,label\na,1,0.5,1\n" * 50)
    assert "is no complete" in refusal(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_another_encoding_is_refused(suffix: str, tmp_path: Path) -> None:
    raw = WRITERS[suffix](tmp_path / f"ok{suffix}", rows()).read_text()
    path = write(tmp_path / f"utf16{suffix}", raw.encode("utf-16"))
    assert refusal(path) == "line 1 is not UTF-8 (byte 0xff); save the file as UTF-8"
    path = write(tmp_path / f"latin{suffix}", raw.replace("chess", "échecs").encode("latin-1"))
    assert "is not UTF-8 (byte 0xe9)" in refusal(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_overlong_line_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINE_BYTES_MAX", 500)
    made = [*rows(), {**rows()[3], "trajectory_id": "d" * 500}]
    path = WRITERS[suffix](tmp_path / f"data{suffix}", made)
    line = 6 if suffix == ".csv" else 5
    assert refusal(path).startswith(f"line {line} is longer than 500 bytes; ")


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz"])
def test_a_file_that_unpacks_without_end_is_refused_in_bounded_memory(
    suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"bomb{suffix}", b" " * 2**24)
    tracemalloc.start()
    assert refusal(path).startswith("line 1 is longer than ")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npz"])
def test_an_oversized_file_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[suffix](tmp_path / f"data{suffix}", rows())
    monkeypatch.setattr(files, "DATA_BYTES_MAX", 150)
    assert "150" in refusal(path)
    array = write(tmp_path / "array.jsonl", msgspec.json.encode(rows()))
    assert refusal(array) == "has more than 150 bytes; split it"


def test_too_many_parquet_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "data.parquet", rows())
    monkeypatch.setattr(files, "DATA_ROWS_MAX", 3)
    assert refusal(path) == "has 4 rows, at most 3 are read"


def test_parquet_without_rows_or_of_odd_types_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    table = pa.table(columns(rows()))
    pq.write_table(table.slice(0, 0), path)
    assert refusal(path) == "has columns and no rows; it needs one row per step"
    place = table.column_names.index("score")
    odd = table.set_column(place, "score", pa.array([[0.5]] * 4))
    pq.write_table(odd, path)
    assert refusal(path).startswith("column 'score' is of type list<")
    pq.write_table(table.set_column(place, "score", pa.array(["0.5", None, "x", "1"])), path)
    assert refusal(path) == "row 3, column 'score': 'x' is not a number"


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "data.parquet", b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as caught:
        read(path)
    assert str(caught.value) == "reading parquet needs pyarrow: pip install 'tocsin[parquet]'"


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    names = np.array(["a", None], dtype=object)
    np.savez(path, trajectory_id=names, step=[1, 1], score=[0.5, 0.5], label=[1, 0])
    assert "pickled objects are never loaded" in refusal(path)
    np.savez(path, trajectory_id=["a", "b"], step=[1, 1], score=[[0.5, 0.5]], label=[1, 0])
    assert "one number or name per step is needed" in refusal(path)
    np.savez(path, trajectory_id=[], step=[], score=[], label=[])
    assert refusal(path) == "has no rows; it needs one per step"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("score.npy", b"no array")
    assert refusal(path, columns={"label": "score"}).startswith("has no column 'trajectory_id'")


# --------------------------------------------------------------------------------------- bad cells


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "high"}, "column 'score': 'high' is not a number"),
        ({"score": "1_000"}, "column 'score': '1_000' is not a number"),
        ({"score": "٣"}, "column 'score': '٣' is not a number"),
        ({"score": "\x1b[31m"}, "column 'score': '\\x1b[31m' is not a number"),
        ({"score": "x" * 300}, "column 'score': '" + "x" * 60 + "'… is not a number"),
        ({"step": 1.5}, "column 'step': "),
        ({"step": ""}, "column 'step': is empty; it needs a whole number"),
        ({"step": 7}, "column 'step': trajectory 'c' has step 7 where 1 was expected"),
        ({"label": 2}, "column 'label': "),
        ({"label": ""}, "column 'label': is empty; it must be 1 (safe) or 0 (unsafe)"),
        ({"label": "safe"}, "column 'label': 'safe' is neither 1 (safe) nor 0 (unsafe)"),
        ({"tokens": -1}, "column 'tokens': -1 is no"),
        ({"trajectory_id": ""}, "column 'trajectory_id': is empty; each row must name its traj"),
        ({"group": ""}, "column 'group': is empty; fill it, or use the trajectories themselves"),
        ({"onset_step": "soon"}, "column 'onset_step': 'soon' is not a number"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_bad_cell_is_named_by_row_line_and_column(
    suffix: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = WRITERS[suffix](tmp_path / f"data{suffix}", [*rows()[:3], {**rows()[3], **change}])
    where = "row 4 (line 5), " if suffix == ".csv" else "row 4, "
    assert refusal(path).startswith(where + said)


@pytest.mark.parametrize("value", [True, [0.5], {"a": 1}])
def test_a_json_score_that_is_no_number_is_refused(value: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{**rows()[2], "score": value}])
    assert refusal(path) == f"row 1, column 'score': {value!r} is not a number"


def test_blank_lines_count_as_lines_but_not_as_rows(tmp_path: Path) -> None:
    good, bad = (msgspec.json.encode({**rows()[3], "score": s}).decode() for s in (0.5, "x"))
    bad = bad.replace('"c"', '"d"')
    path = write(tmp_path / "data.jsonl", f"\n{good}\n\n{bad}\n")
    assert refusal(path).startswith("row 2 (line 4), column 'score': 'x'")
    path = write(tmp_path / "data.csv", "trajectory_id,step,score,label\n\na,1,0.5,1\n\nb,1,x,1\n")
    assert refusal(path).startswith("row 2 (line 5), column 'score': 'x'")


def test_a_column_is_called_what_the_file_calls_it(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", "id,n,s,y\na,1,0.5,1\na,3,0.5,1\n")
    names = {"trajectory_id": "id", "step": "n", "score": "s", "label": "y"}
    assert refusal(path, columns=names).startswith("row 2 (line 3), column 'n': trajectory 'a' has")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"trajectory_id": ', "line 2 is not JSON: "),
        ('{"score": NaN}', "line 2 is not JSON: "),
        ("[1, 2]", "line 2 is [1, 2], not an object with named columns"),
        ('"\\u001b[31m"', "line 2 is '\\x1b[31m', not an object with named columns"),
        ("[" * 100_000, "line 2 is not JSON: "),
    ],
)
def test_a_line_that_is_no_json_object_is_refused(line: str, said: str, tmp_path: Path) -> None:
    first = msgspec.json.encode(rows()[0]).decode()
    message = refusal(write(tmp_path / "data.jsonl", f"{first}\n{line}\n"))
    assert message.startswith(said)
    assert ("JSON has no NaN: write null" in message) == ("NaN" in line)


def test_a_broken_json_array_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "d.jsonl", "[{}, {}")).startswith("the JSON array is not JSON")
    assert refusal(write(tmp_path / "d.jsonl", "[{}, 3]")) == (
        "item 2 is 3, not an object with named columns"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trajectory_id,step,score,label\na,1,0.5\n", "row 1 (line 2) has 3 fields where the head"),
        ("trajectory_id,step,score,label\na,1,0.5,1,\n", "row 1 (line 2) has 5 fields where the"),
        ('trajectory_id,step,score,label\n"a,1,0.5,1\n', "line 2 is not CSV"),
        ("trajectory_id;step;score;label\na;1;0.5;1\n", "its columns are not separated by commas"),
        ("trajectory_id,step,score,score,label\na,1,1,1,1\n", "has the column 'score' twice"),
    ],
)
def test_a_broken_csv_is_refused(text: str, said: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "data.csv", text)).startswith(said)


@given(st.binary(max_size=200), st.sampled_from(files.SUFFIXES))
def test_no_bytes_make_the_reader_fail_in_any_other_way(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"data{suffix}"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------------------------- describe


def test_describe_counts_what_there_is(tmp_path: Path) -> None:
    assert describe(read(write_csv(tmp_path / "data.csv", rows()))) == {
        "n": 3,
        "steps": 4,
        "safe": 2,
        "unsafe": 1,
        "groups": 2,
        "segments": {"chess": 1, "maths": 2},
        "steps_min": 1,
        "steps_median": 1.0,
        "steps_max": 2,
        "missing_scores": 1,
    }


def test_notes_are_logged_and_returned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_jsonl(
        tmp_path / "data.jsonl", [{"transcript": "\n\nHuman: a\n\nAssistant: b", "rating": 1}]
    )
    with caplog.at_level(logging.WARNING):
        read(path)
    notes = read_with_notes(path).notes
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {n}" for n in notes]
    assert len(notes) == 1


# --------------------------------------------------------------------------------------- real data


def real(name: str) -> Path:
    folder = os.environ.get("TOCSIN_DATA")
    if not folder:
        pytest.skip(f"set TOCSIN_DATA to a folder with {name}")
    path = Path(folder) / name
    if not path.is_file():
        pytest.skip(f"TOCSIN_DATA has no {name}")
    pytest.importorskip("pyarrow")
    return path


@pytest.mark.parametrize("name", ["ev_math", "ev_gsm8k", "ev_chessgames"])
def test_real_scores_are_read_whole(name: str) -> None:
    path = real(f"{name}.parquet")
    read(path)  # the first call imports pyarrow
    begun = time.process_time()
    got = read(path)
    # Measured below 0.1 s of the process's own time, whatever else the machine does.
    assert time.process_time() - begun < 2.0
    found = describe(got)
    assert found["n"] > 1000 and found["safe"] + found["unsafe"] == found["n"]
    assert found["missing_scores"] == 0
    assert got.has_groups and got.has_tokens


def test_real_data_with_several_scores_asks_for_one() -> None:
    path = real("reasoneval.parquet")
    assert "choose one with score_column=" in refusal(path)
    full = describe(read(path, score_column="score_reasoneval34b"))
    part = describe(read(path, score_column="score_reasoneval7b"))
    assert full["missing_scores"] == 0 < part["missing_scores"]
    assert (read(path, score_column="score_reasoneval34b").onset > 0).any()


def test_every_layout_is_named_in_the_errors_in_order() -> None:
    assert [layout.name for layout in datasets.LAYOUTS] == [
        "tocsin",
        "reference",
        "e-valuator",
        "red-team-attempts",
        "llama",
        "fineharm",
    ]
