"""What a file is by its bytes, where nobody published a checksum."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from asset_tools import caffemodel_of, field, safetensors_of, torch_of, varint, zip_of

from lxmert.assets.answers import BadContent
from lxmert.assets.structure import check_structure, format_of

ARRAYS = [np.arange(size, dtype="<f4").tobytes() for size in (300, 500)]
PICKLED = pickle.dumps({"model": {"w": np.arange(300.0)}, "author": "x"}, 2)
WHOLE = {
    "json": json.dumps([{"sent": "ä", "n": index} for index in range(200)]).encode(),
    "jsonl": b'{"a": 1}\n{"b": 2}\n',
    "text": "one\ntwö\n".encode(),
    "torch": torch_of([300, 20], zipped=True),
    "pickle": PICKLED,
    "caffemodel": caffemodel_of(*ARRAYS),
    "safetensors": safetensors_of({"a": bytes(300), "b": bytes(range(200))}),
    "binary": bytes(range(256)),
}
OLD_TORCH = torch_of([300, 20, 1], zipped=False)


def refusal(tmp_path: Path, kind: str, body: bytes) -> str:
    path = tmp_path / "file"
    path.write_bytes(body)
    with pytest.raises(BadContent) as caught:
        check_structure(path, kind)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", [*WHOLE, "old torch"])
def test_whole_files_pass_and_all_others_do_not(tmp_path: Path, kind: str) -> None:
    body = OLD_TORCH if kind == "old torch" else WHOLE[kind]
    kind = kind.split()[-1]
    path = tmp_path / "file"
    path.write_bytes(body)
    check_structure(path, kind)
    if kind in ("jsonl", "text", "binary"):  # whose end does not show
        return
    for length in {1, 2, len(body) // 4, len(body) // 2, len(body) - 300, len(body) - 1}:
        refusal(tmp_path, kind, body[:length])
    refusal(tmp_path, kind, body + b"\0\0\0\0")


@pytest.mark.parametrize("kind", WHOLE)
def test_messages_are_no_files(tmp_path: Path, kind: str) -> None:
    for body, words in [
        (b'{"message": "Not Found", "status": "404"}', "error message instead of data ('Not Found')"),
        (b'{"error": {"code": 403, "message": "quota"}}', "error message instead of data ('quota')"),
        (b'{"errors": ["gone"], "success": false}', "error message instead of data ('[\"gone\"]')"),
        (b'<?xml version="1.0"?><Error><Message>no key</Message></Error>', "a web page"),
        (b"<Error><Code>x</Code><Message>Access Denied</Message></Error>", "titled 'Access Denied'"),
    ]:
        assert words in refusal(tmp_path, kind, body)
    if kind != "text":
        refusal(tmp_path, kind, b"Rate limit exceeded\n")
    assert refusal(tmp_path, kind, b"") == "is empty"


def test_records_that_mention_errors_are_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for body in (
        b'{"message": "hi", "sentence": "x"}',
        b'{"code": 5}',
        b'[{"error": "x"}]',
        b'{"a": {"error": 1}}',
    ):
        path.write_bytes(body)
        check_structure(path, "json")


def test_json_without_a_record_is_no_data(tmp_path: Path) -> None:
    for body in (b"null", b'"Rate limit exceeded"', b"[]", b"{}", b"17"):
        assert "holds no records" in refusal(tmp_path, "json", body)


def test_formats_by_name() -> None:
    names = {
        "a.caffemodel": "caffemodel",
        "b.safetensors": "safetensors",
        "c.bin": "torch",
        "d.PTH": "torch",
        "e.tar.gz": "tar",
        "f.json": "json",
        "g": "binary",
        "x.h5": "hdf5",
    }
    assert {name: format_of(name) for name in names} == names


def test_caffe_networks(tmp_path: Path) -> None:
    old = field(2, field(4, b"conv") + varint(5 << 3) + varint(4) + field(6, field(5, ARRAYS[0])))
    path = tmp_path / "file"
    path.write_bytes(old)
    check_structure(path, "caffemodel")
    assert "no layer with weights" in refusal(tmp_path, "caffemodel", field(100, field(1, b"relu")))
    assert "no field 77" in refusal(tmp_path, "caffemodel", field(77, b"x" * 99))
    assert "no whole .caffemodel" in refusal(tmp_path, "caffemodel", os.urandom(64) + b"\x07")


def test_safetensors_headers(tmp_path: Path) -> None:
    def of(header: object, data: bytes = b"") -> bytes:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for body, words in [
        (of([1]), "header cannot be read"),
        (of({}), "it needs"),
        (of({"a": {**entry, "shape": [3]}}, bytes(8)), "more or fewer bytes than its shape"),
        (of({"a": entry, "b": {**entry, "data_offsets": [9, 17]}}, bytes(17)), "byte 8 of its data"),
        (of({"a": {**entry, "data_offsets": [-8, 0]}}, b""), "lies nowhere"),
        (b"\xff" * 64, "shorter than its header"),
    ]:
        assert words in refusal(tmp_path, "safetensors", body)


def test_old_torch_files_are_measured_to_the_byte(tmp_path: Path) -> None:
    other = bytearray(OLD_TORCH)
    # The order of storages is that of their addresses: the count of whichever is last.
    ends = [(len(other) - count * width - 8, count) for count, width in ((300, 4), (20, 4), (1, 4), (1, 8))]
    (at,) = (at for at, count in ends if int.from_bytes(other[at : at + 8], "little") == count)
    other[at] ^= 1
    assert "of another size" in refusal(tmp_path, "torch", bytes(other))
    assert "none of PyTorch's" in refusal(tmp_path, "torch", PICKLED)
    assert "bytes where its tensors need" in refusal(tmp_path, "torch", OLD_TORCH + b"x")


def test_hostile_pickles_are_walked_and_never_run(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(Bad(), 2))
    check_structure(path, "pickle")  # whole, and nothing else is asked here; the reader refuses it
    assert not (tmp_path / "made").exists()
    huge = b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x."
    assert "it is cut" in refusal(tmp_path, "pickle", huge)
    assert "does not end" in refusal(tmp_path, "pickle", b"\x80\x02c" + b"a" * 5000)
    assert "more than 500000 operations" in refusal(tmp_path, "pickle", b"\x80\x02" + b"N0" * 300_000 + b".")
    generator = random.Random(5)
    for _ in range(50):
        body = bytearray(PICKLED)
        body[generator.randrange(len(body))] ^= 1 << generator.randrange(8)
        path.write_bytes(bytes(body))
        try:
            check_structure(path, "pickle")
        except BadContent:
            pass


def test_json_of_any_length_is_read_whole_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    record = json.dumps({"sent": "x" * 500, "label": {"yes": 1}})
    with open(path, "w") as handle:
        handle.write("[" + ",".join([record] * 60_000) + "]")
    size = path.stat().st_size
    tracemalloc.start()
    check_structure(path, "json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 30e6 and peak < 24e6, (size, peak)
    with open(path, "r+b") as handle:  # a mistake in the middle, with brackets at both ends
        handle.seek(size // 2)
        handle.write(b"\x00" * 8)
    with pytest.raises(BadContent, match=r"is not valid JSON \(line 1: "):
        check_structure(path, "json")
    monkeypatch.setattr("lxmert.assets.structure._MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr("lxmert.data.raw_json._CHUNK_BYTES", 500)
    assert "a record of more than 1000 bytes" in refusal(tmp_path, "json", b'["' + b"x" * 9000 + b'"]')
    assert "extra text" in refusal(tmp_path, "json", b"[1] [2]")


def test_a_weights_file_in_which_something_is_packed(tmp_path: Path) -> None:
    assert "never does" in refusal(tmp_path, "torch", zip_of({"archive/data.pkl": b"x" * 99}))


def test_real_caffe_writer_agrees(tmp_path: Path) -> None:
    buffer = io.BytesIO(caffemodel_of(*ARRAYS))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(buffer.getvalue())
    from lxmert.detector.weights.caffemodel import open_caffemodel

    with open_caffemodel(path) as layers:
        assert [len(layer.blobs) for layer in layers.values()] == [1, 1]
