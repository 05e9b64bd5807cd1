"""Named arrays as bytes: as msgpack-numpy and NumPy write them, and nothing but arrays is read."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from lxmert.data.formats.arrays import pack_arrays, read_npz, unpack_arrays, write_npz


def test_message_pack_bytes_are_those_of_msgpack_numpy():
    array = np.array([[1.5, -2]], np.float16)
    packed = pack_arrays({"conf": array})
    assert packed == (
        b"\x81\xa4conf\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f2\xc4\x04kind\xc4\x00\xc4\x05shape\x92\x01\x02"
        b"\xc4\x04data\xc4\x04\x00\x3e\x00\xc0"
    )
    rng = np.random.default_rng(0)
    arrays = {
        "features": rng.standard_normal((100, 2048)).astype(np.float16), "conf": array,
        "big": np.arange(70_000, dtype=np.int64).reshape(2, 35_000), "soft_labels": np.zeros((0, 5), "<f4"),
    }  # fmt: skip
    back = unpack_arrays(pack_arrays(arrays))
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == value.dtype


def test_msgpack_itself_reads_and_writes_the_same():
    msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed")
    arrays = {"conf": np.array([[0.5], [0.25]], np.float16), "features": np.ones((2, 300), np.float16)}

    def encode(array):
        return {
            b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape,
            b"data": array.tobytes(),
        }  # fmt: skip

    packed = msgpack.packb(arrays, default=encode, use_bin_type=True)
    assert packed == pack_arrays(arrays)
    np.testing.assert_array_equal(unpack_arrays(packed)["features"], arrays["features"])
    raw = msgpack.packb({"a": {k.decode(): v for k, v in encode(arrays["conf"]).items()}}, use_bin_type=True)
    np.testing.assert_array_equal(unpack_arrays(raw)["a"], arrays["conf"])  # inner keys as strings


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "ends early"),
        (b"\x90", "no map of arrays"),
        (b"\x80\x00", "1 bytes follow"),
        (b"\xdf\xff\xff\xff\xff", "ends early"),
        (b"\x91" * 40 + b"\x00", "too deep"),
        (b"\x81\xa1a\xc7\x01\x05x", "which arrays have no use for"),
        (b"\x81\x01\x01", "key is 1"),
        (pack_arrays({"a": np.ones(3, np.float16)})[:-1], "ends early"),
        (pack_arrays({"a": np.ones(3, np.float16)}).replace(b"<f2", b"|O8"), "numbers of type"),
        (pack_arrays({"a": np.ones(3, np.float16)}).replace(b"\x91\x03", b"\x91\x04"), "needs 8"),
        (pack_arrays({"a": np.ones(3, np.float16)}).replace(b"\x91\x03", b"\x91\xff"), "of shape"),
    ],
)
def test_wrong_message_packs_are_refused(data, told):
    with pytest.raises(ValueError, match=told):
        unpack_arrays(data)


def test_archives_of_objects_and_of_lies_are_refused():
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w") as archive:
        # NumPy of 2019 took the keyword for an array; an array of objects would be a pickle.
        for name, value in (("features", np.ones((2, 3))), ("allow_pickle", False), ("names", ["a", None])):
            member = io.BytesIO()
            np.save(member, np.array(value), allow_pickle=True)
            archive.writestr(f"{name}.npy", member.getvalue())
    assert read_npz(handle.getvalue()).keys() == {"features"}
    whole = write_npz({"features": np.arange(6.0).reshape(2, 3)})
    np.testing.assert_array_equal(read_npz(whole)["features"], np.arange(6.0).reshape(2, 3))
    assert write_npz({"a": np.ones(3)}, True) == write_npz({"a": np.ones(3)}, True)
    for data in (b"", b"PK\x03\x04", whole[:-30], whole.replace(b"(2, 3)", b"(9, 9)")):
        with pytest.raises(ValueError):
            read_npz(data)


def test_random_damage_is_never_another_error():
    rng = np.random.default_rng(0)
    arrays = {"norm_bb": np.ones((3, 6), np.float16), "conf": np.ones((3, 1), np.float16)}
    forms = (
        (pack_arrays(arrays), unpack_arrays),
        (write_npz(arrays), read_npz),
        (write_npz(arrays, True), read_npz),
    )
    refused = 0
    for whole, read in forms:
        for _ in range(300):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(256)
            try:
                read(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data))
            except ValueError:
                refused += 1
    assert refused > 400
