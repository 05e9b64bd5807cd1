"""The hash of a picture equals that of the library with which NLVR2's hash files were made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from lxmert.assets.crawl.pictures import average_hash, hash_distance, read_picture

HERE = Path(__file__).resolve().parent
HASHES: dict[str, str] = json.loads((HERE / "average_hash.json").read_text())


def drawn() -> dict[str, bytes]:
    """The pictures of make_average_hash.py, which imports the library itself."""
    source = (HERE / "make_average_hash.py").read_text().replace("import imagehash\n", "")
    spec = importlib.util.spec_from_loader("pictures", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(HERE / "make_average_hash.py")
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module.drawn()


def test_drawn_pictures_have_the_librarys_hash():
    pictures = drawn()
    found = {name: f"{average_hash(read_picture(body)):016x}" for name, body in pictures.items()}
    assert found == {name: HASHES[name] for name in pictures}
    assert len(found) == 8 and len(set(found.values())) >= 7


def test_photographs_have_the_librarys_hash(shared_data):
    paths = sorted((shared_data / "coco10").glob("*.jpg"))
    if not paths:
        pytest.skip(f"no photographs in {shared_data / 'coco10'}")
    found = {path.name: average_hash(read_picture(path.read_bytes())) for path in paths}
    # Decoders of JPEG may round differently, which can turn a bit whose pixel is as light as the mean.
    for name, value in found.items():
        assert hash_distance(value, int(HASHES[name], 16)) <= 1, name
    values = list(found.values())
    assert min(hash_distance(a, b) for a in values for b in values if a != b) > 4
