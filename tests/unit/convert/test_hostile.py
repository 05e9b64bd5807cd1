"""Damaged and hostile files: one line each, nothing executed, nothing half-written."""

from __future__ import annotations

import io
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from convert_models import run

from lxmert.errors import LxmertError, WeightsError
from lxmert.models.weights import save_weights

MUTATIONS = 340  # of each of three files


class Shout:
    """Pickles as a call that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def small(form: str, folder: Path, ours: Callable[[str], Path]) -> Path:
    """A file of some kilobytes whose bytes all matter: few numbers, many names."""
    if form == "ours":
        return ours("nlvr2")
    run(ours("nlvr2"), folder / "w.pth", "reference")
    if form == "old":
        table = torch.load(folder / "w.pth", weights_only=True)
        torch.save(table, folder / "w.pth", _use_new_zipfile_serialization=False)
    return folder / "w.pth"


def reworded(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header is valid JSON and says something else: a word, a number, a name."""
    length = int.from_bytes(data[:8], "little")
    words = re.findall(rb"[A-Za-z_]+|\d+", header := data[8 : 8 + length])
    old = draw.choice(words)
    new = draw.choice([draw.choice(words), b"0", b"9" * draw.randint(1, 20), b"null", old + b"0", b"-1"])
    places = [match.span() for match in re.finditer(rb"\b%s\b" % re.escape(old), header)] or [(0, 0)]
    first, stop = draw.choice(places)
    header = header[:first] + new + header[stop:]
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def mutated(data: bytes, draw: random.Random, words: int) -> bytes:
    """One to three changes: a byte, a cut, a repeat, a number at its limit; most of them where names lie."""
    if data[8:9] == b"{" and draw.random() < 0.8:
        return reworded(data, draw)
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(min(words, len(changed)) if draw.random() < 0.8 else len(changed))
        kind = draw.randrange(5)
        if kind == 0:
            changed[place] = draw.randrange(256)
        elif kind == 1:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del changed[place : place + draw.randint(1, 30)]
        elif kind == 3:
            changed[place:place] = changed[place : place + draw.randint(1, 30)]
        else:
            limit = draw.choice([b"\x00" * 8, b"\xff" * 8, struct.pack("<q", 2**62), b"99999999"])
            changed[place : place + 8] = limit
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize("form", ["ours", "zipped", "old"])
def test_mutations_give_weights_or_one_line(ours: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    source = small(form, tmp_path, ours)
    data, draw = source.read_bytes(), random.Random(7)
    target = tmp_path / f"spoilt{source.suffix}"
    out = tmp_path / ("out.pth" if form == "ours" else "out.safetensors")
    refused = 0
    for number in range(MUTATIONS):
        target.write_bytes(mutated(data, draw, 16_000))
        try:
            run(target, out, "reference" if form == "ours" else "ours", heads=3)
        except LxmertError as error:
            text = str(error)
            refused += 1
            assert "\n" not in text and str(target) in text and len(text) < 700, (number, text)
            assert not out.exists(), number
        out.unlink(missing_ok=True)
        assert not list(tmp_path.glob("out*")), number
    assert refused > MUTATIONS / 3


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_calls_something_is_refused_unexecuted(tmp_path: Path, zipped: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / "w.pth"
    torch.save({"bert.pooler.dense.bias": Shout(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        WeightsError, match=r"w.pth: refused: it asks for .*mkdir.*Nothing of it was executed"
    ):
        run(path, tmp_path / "o.safetensors")
    assert not mark.exists()


def test_a_bare_pickle_is_refused_unexecuted(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(pickle.dumps(Shout(tmp_path / "mark")))
    with pytest.raises(WeightsError, match="w.bin: "):
        run(tmp_path / "w.bin", tmp_path / "o.safetensors")
    assert not (tmp_path / "mark").exists()


def test_tables_of_other_things(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for value, told in (
        (torch.zeros(3), "holds Tensor instead of a table"),
        ({}, "holds dict instead of a table"),
        ({"optimizer": {"lr": 1.0}}, "'optimizer' holds dict instead of a tensor"),
        ({1: torch.zeros(1)}, "'1' holds Tensor instead of a tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "'a' is no plain tensor"),
        ({"a": torch.zeros(1).expand(2**40)}, "'a' is no plain tensor"),
    ):
        torch.save(value, path)
        with pytest.raises(WeightsError, match=told):
            run(path, tmp_path / "o.safetensors")


def test_a_packed_archive_is_not_unpacked(tmp_path: Path) -> None:
    """A zip of zeros in PyTorch's layout could fill the memory."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(WeightsError, match="is an archive, but none of PyTorch's"):
        run(tmp_path / "w.pth", tmp_path / "o.safetensors")


def test_a_cut_off_file_is_named(ours: Callable[[str], Path], tmp_path: Path) -> None:
    for form in ("ours", "zipped", "old"):
        source = small(form, tmp_path, ours)
        source.write_bytes(source.read_bytes()[:-1000])
        with pytest.raises(WeightsError, match="damaged weights file|not a readable|no readable"):
            run(source, tmp_path / "out", "transformers", heads=3)
        assert not list(tmp_path.glob("out*"))


def test_a_full_disk_leaves_nothing(ours: Callable[[str], Path], tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for it: every form fails half way, with one line that names the output."""
    source, folder = ours("vqa"), tmp_path / "out"
    run(source, tmp_path / "w.pth", "reference")
    outputs = [(source, "hub", "transformers"), (source, "o.pth", "reference")]
    outputs.append((tmp_path / "w.pth", "o.safetensors", "ours"))
    code = (
        "import resource\n"
        "from lxmert.convert.converting import Wish, convert\n"
        "from lxmert.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"for source, name, to in {[(str(a), b, c) for a, b, c in outputs]!r}:\n"
        "    try:\n"
        f"        list(convert(source, {str(folder)!r} + '/' + name, Wish(to=to, heads=3)))\n"
        "    except DataError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("the file grew past the allowed size" in line for line in lines)
    for line, (_, name, _) in zip(lines, outputs, strict=True):
        assert line.startswith(f"{folder / name}") and ".tmp-" not in line
    assert not list(folder.rglob("*"))


def test_a_file_of_ours_in_a_form_nobody_writes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    save_weights(tmp_path / "w.safetensors", {"encoder.pooler.weight": torch.zeros(2, 2)}, {})
    stream.write((tmp_path / "w.safetensors").read_bytes())
    data = stream.getvalue().replace(b'"F32"', b'"F4" ')
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"w\.safetensors: "):
        run(tmp_path / "w.safetensors", tmp_path / "w.pth", "reference")
