"""The columns file: kinds, limits, damage, and that equal rows give equal bytes."""

from __future__ import annotations

import json
import pickle
import struct
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from lxmert.data.columns import Columns, ColumnsWriter, Ragged
from lxmert.errors import DataError

KINDS = {
    "id": "strings",
    "image": "int32",
    "pair": "int32[2]",
    "tokens": "ragged int32",
    "scores": "ragged float32",
    "flag": "uint8",
}
ROWS = 7


def fill(writer: ColumnsWriter, cuts: list[int]) -> None:
    for begin, end in zip(cuts, cuts[1:], strict=False):
        rows = range(begin, end)
        writer.append(
            id=["", "é", "日本", "a\tb", "x" * 50, "0001", "z"][begin:end],
            image=np.array(rows),
            pair=[[i, -i] for i in rows],
            tokens=[list(range(i)) for i in rows],
            scores=(np.arange(sum(rows)) * 0 + 0.5, list(rows)),
            flag=[i % 2 for i in rows],
        )


def build(path, cuts=(0, ROWS), meta=None) -> Columns:
    with ColumnsWriter(path, KINDS, {"count": ROWS, **(meta or {})}) as writer:
        fill(writer, list(cuts))
    return Columns(path)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array's memory is a file's: it, or what it is a view of, is a memory map."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_every_kind_comes_back(tmp_path):
    columns = build(tmp_path / "c.safetensors")
    assert columns.names == sorted(KINDS) and len(columns) == ROWS
    assert columns.strings("id").to_list() == ["", "é", "日本", "a\tb", "x" * 50, "0001", "z"]
    assert columns.strings("id")[2] == "日本" and columns.strings("id")[-1] == "z"
    assert columns.array("image").tolist() == list(range(ROWS))
    assert columns.array("pair").shape == (ROWS, 2) and columns.array("pair")[3].tolist() == [3, -3]
    tokens = columns.ragged("tokens")
    assert [row.tolist() for row in (tokens[i] for i in range(ROWS))] == [list(range(i)) for i in range(ROWS)]
    assert tokens.lengths().tolist() == list(range(ROWS))
    values, lengths = tokens.take(np.array([3, 0, 2, 3]))
    assert values.tolist() == [0, 1, 2, 0, 1, 0, 1, 2] and lengths.tolist() == [3, 0, 2, 3]
    assert columns.ragged("scores").values.dtype == np.float32
    assert is_mapped(columns.array("image")) and not columns.array("image").flags.writeable
    for name in KINDS:
        column = columns[name]
        part = column if isinstance(column, np.ndarray) else column.offsets
        assert part.flags.aligned
    with pytest.raises(IndexError):
        tokens[ROWS]


def test_it_is_a_safetensors_file(tmp_path):
    columns = build(tmp_path / "c.safetensors")
    loaded = load_file(tmp_path / "c.safetensors")
    assert sorted(loaded) == sorted(columns._header)
    assert loaded["tokens.values"].tolist() == columns.ragged("tokens").values.tolist()
    assert loaded["pair"].tolist() == columns.array("pair").tolist()


def test_chunks_do_not_change_the_bytes(tmp_path):
    whole = build(tmp_path / "a").path.read_bytes()
    assert build(tmp_path / "b", (0, 1, 1, 4, 7)).path.read_bytes() == whole
    assert build(tmp_path / "a").path.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("rows", [0, 1])
def test_none_and_one(tmp_path, rows):
    with ColumnsWriter(tmp_path / "c", KINDS, {"count": rows}) as writer:
        fill(writer, [0, rows])
        writer.append(id=[])
    columns = Columns(tmp_path / "c")
    assert len(columns) == len(columns.strings("id")) == len(columns.ragged("tokens")) == rows
    assert columns.array("pair").shape == (rows, 2)
    assert columns.strings("id").to_list() == [""] * rows
    values, lengths = columns.ragged("tokens").take(np.arange(rows))
    assert len(values) == 0 and len(lengths) == rows


def test_change_rewrites_a_column_before_the_end(tmp_path):
    with ColumnsWriter(tmp_path / "c", {"image": "int32[2]"}, {"count": 2}) as writer:
        writer.append(image=[[0, 1], [1, 2]])
        writer.change("image", lambda values: np.array([5, 6, 7])[values])
        writer.meta["more"] = [1]
    columns = Columns(tmp_path / "c")
    assert columns.array("image").tolist() == [[5, 6], [6, 7]] and columns.meta["more"] == [1]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), ColumnsWriter(tmp_path / "c", KINDS) as writer:
        fill(writer, [0, 3])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_is_removed(tmp_path):
    (tmp_path / "c.spill-99999999").mkdir()
    (tmp_path / "c.spill-99999999" / "0.bin").write_bytes(b"x")
    build(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="folder"):
        build(tmp_path / "file" / "c")


def test_a_full_disk_is_one_line():
    import pathlib

    if not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from lxmert.data import columns

    part = columns._Part(pathlib.Path("/dev/null"), np.dtype("<i4"), ())
    part._handle.close()
    part._handle = open("/dev/full", "wb", buffering=0)
    writer = ColumnsWriter("nowhere", {"a": "int32"})
    writer._parts["a"] = part
    with pytest.raises(DataError, match="no space left"):
        writer.append(a=np.arange(10))
    part._handle.close()


def test_pickling_carries_the_path_only(tmp_path):
    columns = build(tmp_path / "c")
    assert columns.array("image")[2] == 2
    data = pickle.dumps(columns)
    assert len(data) < 400
    assert pickle.loads(data).strings("id")[1] == "é"


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = build(tmp_path / "c").path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="c: .*(cut short|bytes long|damaged).*build it again"):
        Columns(path)


def header_of(data: bytes) -> dict:
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: h.pop("__metadata__"),
        lambda h: h["__metadata__"].update(meta="{"),
        lambda h: h["image"].update(shape=[3]),
        lambda h: h["image"].update(dtype="I33"),
        lambda h: h["image"].update(data_offsets=[0, 4]),
        lambda h: h["image"].pop("data_offsets"),
        lambda h: h.update(image=3),
        lambda h: h.pop("image"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, spoil):
    path = build(tmp_path / "c").path
    data = path.read_bytes()
    header = header_of(data)
    spoil(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + struct.unpack("<Q", data[:8])[0] :])
    with pytest.raises(DataError, match="damaged"):
        Columns(path)


def test_bytes_that_are_no_header_are_refused(tmp_path):
    (tmp_path / "c").write_bytes(b"\x10" + b"\0" * 7 + b"not json at all." + b"1234")
    with pytest.raises(DataError, match="damaged"):
        Columns(tmp_path / "c")
    (tmp_path / "d").write_bytes(b"\xff" * 64)
    with pytest.raises(DataError, match="not a columns file"):
        Columns(tmp_path / "d")


def test_a_missing_file_and_a_missing_column(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Columns(tmp_path / "none")
    columns = build(tmp_path / "c")
    with pytest.raises(DataError, match='no column token.*Did you mean "tokens"'):
        columns["token"]
    with pytest.raises(DataError, match="image is not a ragged column"):
        columns.ragged("image")


def test_opening_a_million_rows_takes_milliseconds(tmp_path):
    with ColumnsWriter(tmp_path / "c", {"ids": "ragged int32", "id": "strings"}, {"count": 10**6}) as writer:
        for _ in range(10):
            writer.append(ids=(np.zeros(10**6, np.int32), np.full(10**5, 10)), id=["0123456"] * 10**5)
    began = time.perf_counter()
    columns = Columns(tmp_path / "c")
    assert columns.strings("id")[999_999] == "0123456" and len(columns.ragged("ids")[5]) == 10
    assert time.perf_counter() - began < 0.05


def test_ragged_rows_may_be_taken_from_nothing():
    empty = Ragged(np.empty(0, np.int32), np.zeros(1, np.int64))
    values, lengths = empty.take(np.empty(0, np.int64))
    assert len(empty) == 0 and len(values) == 0 and len(lengths) == 0
