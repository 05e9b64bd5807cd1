from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxmert.cli import main
from lxmert.errors import DataError, SpecError
from lxmert.world.drawing import draw
from lxmert.world.generate import generate_world
from lxmert.world.pictures import PNG_FORMS, encode
from lxmert.world.plan import plan_world
from lxmert.world.rng import Stream
from lxmert.world.scenes import KINDS, TEXTURES, Scene, SceneObject, sample_scene
from lxmert.world.spec import DEFAULTS, resolve

# After a wanted change take the new values from the failing tests, and raise lxmert.world.generate.VERSION.
GOLDEN_FILES = "1be45570424305a7ece96e2af85bba447f18ecf1ea22e4f04a4065f21a45b1f4"
GOLDEN_PIXELS = "73f68c844e227104cdbcbf14b93ffa38726b9b6da9da594ea88ca24eb592f5f3"


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_golden_files(tiny):
    lines = [f"{name} {record['sha256']}" for name, record in sorted(tiny.manifest["files"].items())]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDEN_FILES


def test_golden_pixels():
    digest = hashlib.sha256()
    for index in range(12):
        picture = draw(sample_scene(Stream(3, "golden", index)))
        digest.update(f"{picture.size}".encode() + picture.tobytes())
    assert digest.hexdigest() == GOLDEN_PIXELS


def test_second_run_over_an_interrupted_one_gives_the_same_bytes(tiny, world_tools, tmp_path):
    root = tmp_path / "raw"
    generate_world(world_tools.tiny, root, root / "world.json")
    wanted = tree(tiny.root)
    assert tree(root) == wanted
    # What a killed run leaves: no manifest, a torn file, a missing one, a leftover, an image too many.
    (root / "world.json").unlink()
    (root / "gqa/val_choices.json").write_text("{")
    (root / "vg/objects.json").unlink()
    (root / "gqa/images/999.jpg.tmp-1").write_bytes(b"x")
    (root / "coco/train2014/COCO_train2014_000000999999.jpg").write_bytes(b"x")
    generate_world(world_tools.tiny, root, root / "world.json", workers=2)
    assert tree(root) == wanted


def test_files_of_others_are_not_touched(tmp_path):
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa/mine.json").write_text("1")
    with pytest.raises(DataError, match="not generated"):
        generate_world({}, tmp_path, tmp_path / "world.json")
    assert (tmp_path / "vqa/mine.json").read_text() == "1"


def test_manifest_describes_every_file(tiny):
    manifest = json.loads((tiny.root / "world.json").read_text())
    assert manifest["seed"] == 3 and manifest["sizes"]["coco"]["train2014"] == 5
    for name, record in manifest["files"].items():
        assert hashlib.sha256((tiny.root / name).read_bytes()).hexdigest() == record["sha256"], name
    on_disk = {
        p.parent.relative_to(tiny.root).as_posix()
        for p in tiny.root.rglob("*")
        if p.suffix in (".jpg", ".png")
    }
    assert set(manifest["images"]) == on_disk
    for folder, record in manifest["images"].items():
        rows = []
        for path in (tiny.root / folder).iterdir():
            with Image.open(path) as image:
                pixels = image.convert("RGB")
            rows.append(
                f"{path.name} {hashlib.sha256(f'{pixels.size}'.encode() + pixels.tobytes()).hexdigest()}"
            )
        assert record["images"] == len(rows)
        assert hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest() == record["pixels_sha256"], folder
    expected = {"vqa": 10, "gqa": 15, "coco": 3, "nlvr2": 3, "vg": 13}
    for part, least in expected.items():
        assert sum(name.startswith(part + "/") for name in manifest["files"]) >= least - 3, part


def test_sizes_of_one_set_leave_the_others_alone(world_tools):
    spec = world_tools.tiny
    small = plan_world(resolve(spec))
    larger = plan_world(
        resolve({**spec, "coco": {**spec["coco"], "train2014": 9}, "gqa": {**spec["gqa"], "questions": 5}})
    )
    assert larger.coco["train2014"][:5] == small.coco["train2014"]
    assert larger.coco["val2014"] == small.coco["val2014"] and larger.genome == small.genome
    assert larger.nlvr2 == small.nlvr2 and larger.gqa == small.gqa and larger.minival == small.minival


def test_another_seed_gives_another_world():
    assert sample_scene(Stream(1, "vg", 0)) != sample_scene(Stream(2, "vg", 0))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"sead": 1}, ["sead", 'mean "seed"']),
        ({"coco": {"train": 1}}, ["coco/train", "train2014"]),
        ({"gqa": {"val": -1}}, ["gqa/val", "-1"]),
        ({"seed": True}, ["seed"]),
        ({"vg": 5}, ["vg", "object"]),
        ({"coco": {"val2014": 3, "minival": 4}}, ["minival", "4", "3"]),
        ({"gqa": {"testdev": 100, "test": 30}}, ["test2015", "120"]),
        ({"nlvr2": {"directories": 0}}, ["nlvr2/directories"]),
    ],
)
def test_wrong_specs_say_what_is_wrong(spec, words):
    with pytest.raises(SpecError) as caught:
        resolve(spec)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_defaults_are_complete():
    assert resolve({}) == {**DEFAULTS}


def test_an_empty_world_is_written(tmp_path):
    nothing = {
        "coco": {"train2014": 0, "val2014": 0, "minival": 0, "test2015": 0},
        "vg": {"images": 0, "train2014_twins": 0, "val2014_twins": 0, "detector_val": 0, "detector_test": 0},
        "gqa": {"val": 0, "testdev": 0, "test": 0, "challenge": 0},
        "nlvr2": {"train_sets": 0, "dev_sets": 0, "test1_sets": 0},
    }
    manifest = generate_world(nothing, tmp_path, tmp_path / "world.json")
    assert manifest["images"] == {} and (tmp_path / "nlvr2/data/dev.json").read_text() == ""


def test_drawings_fill_their_boxes_and_differ():
    seen = set()
    empty = np.asarray(draw(Scene(120, 110, "outdoors", "snow", 40, 5, ())), dtype=int)
    for kind in KINDS:
        for texture in TEXTURES:
            thing = SceneObject(kind, "blue", texture, "large", (20.0, 20.0, 80.0, 80.0), 0)
            scene = Scene(120, 110, "outdoors", "snow", 40, 5, (thing,))
            picture = np.asarray(draw(scene), dtype=int)
            ys, xs = np.nonzero(np.abs(picture - empty).sum(axis=2))
            assert 20 <= min(xs) < 23 and 77 <= max(xs) < 80, kind
            assert 20 <= min(ys) < 24 and 76 <= max(ys) < 80, kind
            seen.add(picture.tobytes())
    assert len(seen) == len(KINDS) * len(TEXTURES)


def test_every_byte_form_keeps_the_colours():
    picture = draw(sample_scene(Stream(3, "forms")))
    for form in PNG_FORMS:
        decoded = Image.open(io.BytesIO(encode(picture, form))).convert("RGB")
        difference = np.asarray(picture, dtype=int) - np.asarray(decoded, dtype=int)
        assert np.abs(difference).mean() < 7, form


def test_the_verb_reports_a_wrong_spec_in_one_line(tmp_path, capsys):
    where = ["--out-root", str(tmp_path / "raw"), "--out-manifest", str(tmp_path / "raw/world.json")]
    assert main(["generate", "--spec", '{"coco": {"trian2014": 1}}', *where]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "coco/trian2014" in error and "train2014" in error and not (tmp_path / "raw").exists()
