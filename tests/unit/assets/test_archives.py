"""Hostile and broken archives: refused with one line, nothing written outside the staging folder."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from asset_tools import zip_of

from lxmert.assets.answers import BadContent
from lxmert.assets.archives import unpack
from lxmert.assets.asset import Member
from lxmert.assets.pieces import join_parts

WANTED = [Member("raw/a.json", name="a.json"), Member("raw/pictures", pattern="*.jpg", files=2)]
HONEST = {"top/deep/a.json": b"[1]", "top/1.jpg": b"one", "top/more/2.jpg": b"two", "top/b.json": b"[2]"}


def run(tmp_path: Path, body: bytes, kind: str = "zip", limit: int | None = None, wanted=WANTED):  # type: ignore[no-untyped-def]
    path, staging = tmp_path / "archive", tmp_path / "staging"
    path.write_bytes(body)
    staging.mkdir(exist_ok=True)
    return unpack(path, kind, wanted, staging, limit)


def tar_of(entries: list[tuple[tarfile.TarInfo, bytes]], compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if compress else "w") as target:
        for info, body in entries:
            info.size = len(body) if info.isreg() else 0
            target.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def tar_files(files: dict[str, bytes], compress: bool = False) -> bytes:
    return tar_of([(tarfile.TarInfo(name), body) for name, body in files.items()], compress)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize(
    ("kind", "body"),
    [("zip", zip_of(HONEST)), ("tar", tar_files(HONEST)), ("tar", tar_files(HONEST, compress=True))],
)
def test_honest(tmp_path: Path, kind: str, body: bytes) -> None:
    found = {
        (item.member.place, item.relative): item.staged.read_bytes() for item in run(tmp_path, body, kind)
    }
    assert found == {
        ("raw/a.json", "a.json"): b"[1]",
        ("raw/pictures", "1.jpg"): b"one",
        ("raw/pictures", "2.jpg"): b"two",
    }


def test_folders_that_stay(tmp_path: Path) -> None:
    body = zip_of({"images/train/7/train-1.png": b"x", "images/train/8/train-2.png": b"y"})
    wanted = [Member("raw/images", pattern="train-*.png", keep_folders=1)]
    assert [item.relative for item in run(tmp_path, body, wanted=wanted)] == [
        "7/train-1.png",
        "8/train-2.png",
    ]


def test_what_macs_add_is_passed_over(tmp_path: Path) -> None:
    body = zip_of({**HONEST, "__MACOSX/top/._1.jpg": b"junk", "top/._2.jpg": b"junk", "__MACOSX/a.json": b""})
    assert len(run(tmp_path, body)) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/a.json", "absolute path"),
        ("C:/a.json", "absolute path"),
        ("\\\\host\\a.json", "absolute path"),
        ("../a.json", "leaves its folder"),
        ("top/../../a.json", "leaves its folder"),
        ("top\\..\\a.json", "leaves its folder"),
        ("top/a\n.json", "unprintable"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_escape(tmp_path: Path, kind: str, name: str, words: str) -> None:
    files = {**HONEST, name: b"evil"}
    body = zip_of(files) if kind == "zip" else tar_files(files)
    with pytest.raises(BadContent, match=words) as caught:
        run(tmp_path, body, kind)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))


def test_name_with_a_zero_byte(tmp_path: Path) -> None:
    body = zip_of({**HONEST, "top/evil.x": b"1"}).replace(b"top/evil.x", b"top/ev\0l.x")
    with pytest.raises(BadContent, match="unprintable"):
        run(tmp_path, body)


def test_links_and_devices(tmp_path: Path) -> None:
    honest = [(tarfile.TarInfo(name), body) for name, body in HONEST.items()]
    for entry, words in [
        (link("x", "/etc/passwd"), "the link 'x'"),
        (link("top/3.jpg", "top/1.jpg", tarfile.LNKTYPE), "the link"),
        (link("pipe", "", tarfile.FIFOTYPE), "the special file"),
        (link("disk", "", tarfile.BLKTYPE), "the special file"),
    ]:
        with pytest.raises(BadContent, match=words):
            run(tmp_path, tar_of([entry, *honest]), "tar")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        info = zipfile.ZipInfo("top/a.json")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        target.writestr(info, "/etc/passwd")
    with pytest.raises(BadContent, match="the link 'top/a.json'"):
        run(tmp_path, buffer.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for body in ("1", "2"):
            target.writestr("top/b.json", body)
    with pytest.raises(BadContent, match="holds 'top/b.json' twice"):
        run(tmp_path, buffer.getvalue())
    twice = [(tarfile.TarInfo("top/b.json"), b"1"), (tarfile.TarInfo("top/b.json"), b"2")]
    with pytest.raises(BadContent, match="holds 'top/b.json' twice"):
        run(tmp_path, tar_of(twice), "tar")
    for kind, body in (("zip", zip_of), ("tar", tar_files)):
        with pytest.raises(BadContent, match="holds a.json in two folders, and both are wanted"):
            run(tmp_path, body({**HONEST, "other/a.json": b"[9]"}), kind)


def test_wrong_checksum_in_a_member_nobody_wants(tmp_path: Path) -> None:
    body = bytearray(zip_of({**HONEST, "top/z.bin": b"q" * 5000}, zipfile.ZIP_STORED))
    body[body.index(b"qqqq") + 100] ^= 1
    with pytest.raises(BadContent, match="broken zip archive.*CRC"):
        run(tmp_path, bytes(body))


def test_every_flipped_byte_of_the_data_is_noticed(tmp_path: Path) -> None:
    pictures = random.Random(1).randbytes(300)
    honest = zip_of({**HONEST, "top/1.jpg": pictures}, zipfile.ZIP_STORED)
    start = honest.index(pictures)
    for position in range(start, start + 300, 29):
        body = honest[:position] + bytes([honest[position] ^ 4]) + honest[position + 1 :]
        with pytest.raises(BadContent):
            run(tmp_path, body)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_cut_anywhere(tmp_path: Path, kind: str) -> None:
    body = zip_of(HONEST) if kind == "zip" else tar_files(HONEST, compress=kind == "tar.gz")
    end = 4 * 1024 if kind == "tar" else len(body) - 1  # after four members only zeros can be lost
    for size in [*range(0, end, 37 if end > 2000 else 7), end]:
        with pytest.raises(BadContent):
            run(tmp_path, body[:size], kind[:3])


def test_bombs(tmp_path: Path) -> None:
    zeros = bytes(40 << 20)
    bomb = zip_of({**HONEST, "top/z": zeros})
    assert len(bomb) < 50_000
    with pytest.raises(BadContent, match="as only bombs do"):
        run(tmp_path, bomb)
    with pytest.raises(BadContent, match="as only bombs do"):
        run(tmp_path, tar_files({"top/z": zeros, **HONEST}, compress=True), "tar")
    with pytest.raises(BadContent, match="more than 4 bytes"):
        run(tmp_path, zip_of(HONEST), limit=4)
    assert sum(path.stat().st_size for path in (tmp_path / "staging").iterdir()) < 1000


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    body = bytearray(zip_of({"a.json": bytes(20 << 20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", body, body.index(signature) + offset, 3)
    with pytest.raises(BadContent):
        run(tmp_path, bytes(body))
    assert all(path.stat().st_size <= 3 for path in (tmp_path / "staging").iterdir())


def test_members_that_overlap(tmp_path: Path) -> None:
    """Two entries of the directory that share one member's bytes."""
    body = zip_of({"top/a.json": b"[1]", "top/c.json": b"[1]"}, zipfile.ZIP_STORED)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        first, second = (entry.header_offset for entry in archive.infolist())
    assert first == 0 < second
    position = body.rindex(b"PK\x01\x02") + 42
    body = body[:position] + struct.pack("<I", 0) + body[position + 4 :]
    with pytest.raises(BadContent, match="overlap"):
        run(tmp_path, body, wanted=[Member("raw/a.json", name="a.json")])


def test_endless_tar_header(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    body = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4 << 20))
    with pytest.raises(BadContent, match="a header of"):
        run(tmp_path, body, "tar")


def test_encrypted_or_unknown(tmp_path: Path) -> None:
    body = bytearray(zip_of({"a.json": b"[1]"}))
    body[body.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadContent, match="encrypted"):
        run(tmp_path, bytes(body))
    with pytest.raises(BadContent, match="in compression 14, not deflate"):
        run(tmp_path, zip_of({"a.json": b"[1]"}, zipfile.ZIP_LZMA))


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadContent, match="holds no a.json"):
        run(tmp_path, zip_of({"1.jpg": b"1", "2.jpg": b"2"}))
    with pytest.raises(BadContent, match=r"holds no \*.jpg"):
        run(tmp_path, zip_of({"a.json": b"1"}))
    with pytest.raises(BadContent, match=r"holds 1 files \*.jpg, not 2"):
        run(tmp_path, zip_of({"a.json": b"1", "1.jpg": b"1"}))
    with pytest.raises(BadContent, match="holds no a.json"):
        run(tmp_path, zip_of({}))
    with pytest.raises(BadContent, match="broken zip"):
        run(tmp_path, b"")


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    draw = random.Random(3)
    for kind, honest in (
        ("zip", zip_of(HONEST)),
        ("tar", tar_files(HONEST)),
        ("tar", tar_files(HONEST, True)),
    ):
        for _ in range(150):
            body = bytearray(honest)
            for _ in range(draw.randint(1, 4)):
                body[draw.randrange(min(len(body), 6000))] = draw.randrange(256)
            try:
                run(tmp_path, bytes(body), kind)
            except BadContent as error:
                assert "\n" not in str(error)


def test_join(tmp_path: Path) -> None:
    names = ["x.zip.aa", "x.zip.ab", "x.zip.ac"]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([index]) * 3)
    join_parts([tmp_path / name for name in reversed(names)], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\0\0\0\1\1\1\2\2\2"
    for wrong, words in [
        (["x.zip.aa", "x.zip.ac"], "gap"),
        (["x.zip.ab", "x.zip.ac"], "gap"),
        (["x.zip.aa", "y.zip.ab"], "different files"),
        (["x.zip.aa", "x.zip.aaa"], "gap"),
    ]:
        with pytest.raises(BadContent, match=words):
            join_parts([tmp_path / name for name in wrong], tmp_path / "out2")
    digits = [f"x.zip.{index:02d}" for index in range(11)]
    for name in digits:
        (tmp_path / name).write_bytes(name[-2:].encode())
    join_parts([tmp_path / name for name in digits], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"0001020304050607080910"
