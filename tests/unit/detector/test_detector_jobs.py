"""Long detector jobs: killed and resumed they equal unbroken ones; shards and workers change nothing."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from detector_scenes import job, micro_documents, write_raw
from PIL import Image

from lxmert.cli import main
from lxmert.data.region_store import RegionStore
from lxmert.specs.documents import read_document

STEPS = 6


def run(*arguments: object) -> int:
    return main(["--threads", "1", *map(str, arguments)])


def train_arguments(folder: Path, raw: Path, listing: Path, steps: int = STEPS) -> list[object]:
    size, recipe = micro_documents(steps)
    spec = json.dumps({"kind": "detector", "seed": 1, "size": size, "recipe": recipe})
    return [
        "train-detector", "--spec", spec, "--raw", raw, "--listing", listing, "--state", folder / "state",
        "--out-weights", folder / "detector.safetensors", "--out-metrics", folder / "metrics.json",
        "--out-history", folder / "history.jsonl",
    ]  # fmt: skip


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    folder = tmp_path_factory.mktemp("trained")
    assert run(*train_arguments(folder, *scenes)) == 0
    return folder


def test_training_writes_everything(trained):
    assert not (trained / "state").exists()
    assert [
        json.loads(line)["step"] for line in (trained / "history.jsonl").read_text().splitlines()
    ] == list(range(1, STEPS + 1))
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"objects", "attributes", "attribute_accuracy", "losses"} <= metrics.keys()
    assert metrics["steps"] == STEPS and metrics["images"] == 2
    assert sorted(path.name for path in trained.iterdir()) == [
        "detector.safetensors",
        "history.jsonl",
        "metrics.json",
    ]


def test_workers_change_no_bit(tmp_path, scenes, trained):
    assert run("--workers", "2", *train_arguments(tmp_path, *scenes)) == 0
    assert digest(tmp_path / "detector.safetensors") == digest(trained / "detector.safetensors")


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch", "torchvision", "lxmert.detector.train_cli", "lxmert.detector.extract_cli"]
)


@contextmanager
def process(arguments: list[object]):
    """A job in a process that is gone after the block."""
    started = SERVER.Process(target=job, args=(arguments,))
    started.start()
    try:
        yield started
    finally:
        started.kill()
        started.join()


def wait(ready, started) -> None:
    for _ in range(12_000):
        if not started.is_alive() or ready():
            return
        time.sleep(0.01)
    raise AssertionError("the job did not come far enough")


def lines(path: Path) -> int:
    """Lines of a file that the job may replace or remove at any moment."""
    try:
        return path.read_text().count("\n")
    except FileNotFoundError:
        return 0


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_killed_training_equals_an_unbroken_one(tmp_path, scenes, trained):
    arguments = train_arguments(tmp_path, *scenes)
    for step in (1, 3, 4):
        with process(arguments) as started:
            wait(lambda step=step: lines(tmp_path / "state" / "history.jsonl") >= step, started)
    assert run(*arguments) == 0
    assert digest(tmp_path / "detector.safetensors") == digest(trained / "detector.safetensors")
    steps = [json.loads(line)["step"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


def test_terminated_training_saves_and_says_so(tmp_path, scenes):
    arguments = train_arguments(tmp_path, *scenes, steps=2000)
    with process(arguments) as started:
        wait(lambda: lines(tmp_path / "state" / "history.jsonl") >= 2, started)
        started.terminate()
        started.join(60)
        assert started.exitcode == 75
    assert (tmp_path / "state" / "state.safetensors").exists() and not (
        tmp_path / "detector.safetensors"
    ).exists()


def extract_arguments(
    folder: Path, weights: Path, listing: Path, shard: str = "1/1", **profile
) -> list[object]:
    document = read_document("profile", "sample-16") | profile
    name = shard.replace("/", "-")
    return [
        "extract", "--spec", json.dumps({"kind": "extract", "profile": document}), "--weights", weights,
        "--listing", listing, "--shard", shard, "--state", folder / f"state-{name}",
        "--out", folder / f"{name}.lmdb",
    ]  # fmt: skip


def records(*stores: Path) -> dict[str, bytes]:
    found = {}
    for path in stores:
        with RegionStore(path) as store:
            for image_id, key in zip(store.ids, store.hashes, strict=True):
                found[image_id] = key.tobytes()
    return found


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, scenes, trained):
    folder = tmp_path_factory.mktemp("extracted")
    assert run(*extract_arguments(folder, trained / "detector.safetensors", scenes[1])) == 0
    return folder / "1-1.lmdb"


def test_extraction_fills_the_store(extracted):
    with RegionStore(extracted) as store:
        assert list(store.ids) == list("12345678")
        provenance = store.provenance
        assert provenance["profile"]["profile"] == "sample-16" and provenance["exif"] == "apply"
        assert len(provenance["weights"]["sha256"]) == 64 and provenance["quarantined"] == []
        assert {"torch", "torchvision", "pillow", "numpy"} <= provenance["versions"].keys()
        regions = store.regions("1")
        assert 1 <= len(regions) <= 16 and regions.features.shape[1] == 8
        assert (regions.width, regions.height) == (80, 64)
        assert (regions.boxes_px[:, 2] <= 79.5).all() and (regions.object_ids < 3).all()
        assert np.isfinite(regions.selection_scores).all()


@pytest.mark.parametrize(("shards", "workers"), [(1, 2), (3, 0)])
def test_shards_and_workers_change_no_bit(tmp_path, scenes, trained, extracted, shards, workers):
    parts = []
    for index in range(1, shards + 1):
        arguments = extract_arguments(
            tmp_path, trained / "detector.safetensors", scenes[1], f"{index}/{shards}"
        )
        assert run("--workers", workers, *arguments) == 0
        parts.append(tmp_path / f"{index}-{shards}.lmdb")
    assert records(*parts) == records(extracted)


def many(folder: Path, scenes, count: int) -> Path:
    """A listing of `count` images."""
    document = json.loads(scenes[1].read_text())
    images = [{"id": f"{i:04d}", "file": document["images"][i % 8]["file"]} for i in range(count)]
    (folder / "many.json").write_text(json.dumps({**document, "images": images}))
    return folder / "many.json"


def test_killed_extraction_goes_on_and_equals_an_unbroken_one(tmp_path, scenes, trained):
    listing, weights = many(tmp_path, scenes, 400), trained / "detector.safetensors"
    assert run(*extract_arguments(tmp_path, weights, listing)) == 0
    unbroken = digest(tmp_path / "1-1.lmdb")
    (tmp_path / "1-1.lmdb").unlink()
    arguments, partial, size = (
        extract_arguments(tmp_path, weights, listing),
        tmp_path / "state-1-1" / "part.lmdb",
        0,
    )
    for _ in range(2):
        with process(arguments) as started:
            wait(lambda size=size: size_of(partial) > size + 10_000, started)
        size = size_of(partial)
        assert not (tmp_path / "1-1.lmdb").exists()
    assert run(*arguments) == 0
    assert digest(tmp_path / "1-1.lmdb") == unbroken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-1.lmdb", "many.json"]


@pytest.mark.slow
def test_extraction_killed_at_twenty_random_moments_equals_an_unbroken_one(
    tmp_path, scenes, trained, extracted
):
    listing, weights = many(tmp_path, scenes, 1200), trained / "detector.safetensors"
    arguments = extract_arguments(tmp_path, weights, listing)
    began = time.monotonic()
    with process(arguments) as started:
        started.join()
    seconds, unbroken = time.monotonic() - began, digest(tmp_path / "1-1.lmdb")
    moments = random.Random(5)
    kills, whole, at = 0, 0, []
    (tmp_path / "1-1.lmdb").unlink()
    while kills < 20:
        with process(arguments) as started:
            started.join(moments.uniform(0.0, seconds / 3))
            killed = started.is_alive()
        at.append(size_of(tmp_path / "state-1-1" / "part.lmdb"))
        kills += killed
        if not killed:  # it came to its end before; the next kills meet a new one
            whole += 1
            assert digest(tmp_path / "1-1.lmdb") == unbroken
            (tmp_path / "1-1.lmdb").unlink()
    assert run(*arguments) == 0
    print(
        f"20 kills of a job of {seconds:.1f} s, which came to its end {whole + 1} times; partial files {at}"
    )
    assert digest(tmp_path / "1-1.lmdb") == unbroken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-1.lmdb", "many.json"]
    with RegionStore(tmp_path / "1-1.lmdb") as store:
        assert len(store) == 1200


def spoilt(folder: Path, scenes) -> Path:
    """A listing with a cut image, a text file and a missing one among good ones."""
    document = json.loads(scenes[1].read_text())
    source = Path(document["folder"])
    target = folder / "images"
    target.mkdir()
    for name in "1268":
        (target / f"{name}.jpg").write_bytes((source / "VG_100K" / f"{name}.jpg").read_bytes())
    data = (target / "2.jpg").read_bytes()
    (target / "2.jpg").write_bytes(data[: len(data) // 2])
    (target / "6.jpg").write_text("<html>")
    Image.new("RGB", (1, 40)).save(target / "9.png")
    images = [
        {"id": name[0], "file": name} for name in ("1.jpg", "2.jpg", "3.jpg", "6.jpg", "8.jpg", "9.png")
    ]
    (folder / "spoilt.json").write_text(json.dumps({**document, "folder": str(target), "images": images}))
    return folder / "spoilt.json"


def test_bad_images_stop_the_job_after_all_others(tmp_path, scenes, trained, extracted, capsys):
    listing = spoilt(tmp_path, scenes)
    arguments = [
        *extract_arguments(tmp_path, trained / "detector.safetensors", listing), "--bad-images", "stop",
    ]  # fmt: skip
    assert run(*arguments) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "2.jpg" in message and "3 bad images of 6" in message and "--bad-images quarantine" in message
    assert not (tmp_path / "1-1.lmdb").exists()
    for name in "236":  # replaced by good ones, the job ends
        good = Path(json.loads(scenes[1].read_text())["folder"]) / "VG_100K" / f"{name}.jpg"
        (tmp_path / "images" / f"{name}.jpg").write_bytes(good.read_bytes())
    assert run(*arguments) == 0
    found, expected = records(tmp_path / "1-1.lmdb"), records(extracted)
    assert len(found) == 6 and all(found[name] == expected[name] for name in "12368")


def test_bad_images_are_listed_in_quarantine(tmp_path, scenes, trained, capsys):
    listing = spoilt(tmp_path, scenes)
    arguments = extract_arguments(tmp_path, trained / "detector.safetensors", listing)
    assert run(*arguments, "--bad-images", "stop") == 2
    # A file that is gone is no bad image; what was done counts whatever becomes of bad images.
    capsys.readouterr()
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert "3.jpg: no such image file; fetch it again. It is the first of 1 bad images of 6" in message
    assert "3 of 6 images are there already" in message
    (tmp_path / "images" / "3.jpg").write_bytes(b"GIF89a")
    assert run(*arguments) == 0
    with RegionStore(tmp_path / "1-1.lmdb") as store:
        assert list(store.ids) == ["1", "8", "9"]
        listed = store.provenance["quarantined"]
        assert [item["id"] for item in listed] == ["2", "3", "6"]
        assert "not an image" in listed[2]["reason"] and "truncated" in listed[0]["reason"]
        assert len(store.regions("9")) == 1  # a line of pixels: the whole image is its region
        assert "bad_images" not in store.schema.profile


def test_a_folder_of_which_most_is_bad_is_refused(tmp_path, scenes, trained, capsys):
    document = json.loads(scenes[1].read_text())
    (tmp_path / "images").mkdir()
    for number in range(30):
        (tmp_path / "images" / f"{number}.jpg").write_text("<html>")
    images = [{"id": str(number), "file": f"{number}.jpg"} for number in range(30)]
    listing = tmp_path / "bad.json"
    listing.write_text(json.dumps({**document, "folder": str(tmp_path / "images"), "images": images}))
    arguments = extract_arguments(tmp_path, trained / "detector.safetensors", listing)
    assert run(*arguments) == 2
    assert "the first of 30 bad images of 30; all others are done. Look" in capsys.readouterr().err


def test_a_profile_is_named_and_unfinished_work_has_its_place(tmp_path, scenes, trained, extracted):
    out = tmp_path / "a.lmdb"
    arguments = ["extract", "--profile", "sample-16", "--weights", trained / "detector.safetensors"]
    arguments += ["--listing", scenes[1], "--out", out]
    with process(arguments) as started:
        wait(lambda: size_of(tmp_path / "a.lmdb.state" / "part.lmdb") > 0, started)
    assert run(*arguments) == 0
    assert records(out) == records(extracted)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lmdb"]


def test_wrong_calls_are_one_line(tmp_path, scenes, trained, capsys):
    weights = trained / "detector.safetensors"
    for shard in ("0/2", "3/2", "x", "1"):
        arguments = extract_arguments(tmp_path, weights, scenes[1])
        arguments[arguments.index("--shard") + 1] = shard
        assert run(*arguments) == 2
        assert f"--shard {shard}" in capsys.readouterr().err
    arguments = extract_arguments(tmp_path, weights, scenes[1])
    arguments[2] = json.dumps(
        {"profile": read_document("profile", "lxmert-36"), "size": read_document("detector_size", "full")}
    )
    assert run(*arguments) == 2
    assert "detector size full has 1600" in capsys.readouterr().err
    arguments[2] = "{}"
    assert run(*arguments) == 2
    assert "profile is missing" in capsys.readouterr().err


def test_evaluation_writes_metrics_and_pictures(tmp_path, scenes, trained):
    arguments = [
        "evaluate-detector", "--weights", trained / "detector.safetensors",
        "--raw", scenes[0], "--listing", scenes[1],
        "--split", "val", "--out-metrics", tmp_path / "m.json", "--out-panels", tmp_path / "panels",
    ]  # fmt: skip
    assert run(*arguments) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    again = json.loads((trained / "metrics.json").read_text())
    assert metrics["objects"]["classes"][0]["name"] == "ball"
    assert metrics["attribute_accuracy_boxes"] == again["attribute_accuracy_boxes"]
    assert len(list((tmp_path / "panels").glob("*.png"))) == 2
    assert Image.open(tmp_path / "panels" / "val_0.png").size[0] >= 480
    assert run(*arguments[:-2], "--through-text") == 0
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["through_text"] and not metrics["through_text"]


def test_other_vocabularies_are_refused(tmp_path, trained, capsys):
    raw, listing = write_raw(tmp_path)
    (raw / "vg" / "objects_vocab.txt").write_text("ball\nbox\nrod")
    arguments = [
        "evaluate-detector", "--weights", trained / "detector.safetensors",
        "--raw", raw, "--listing", listing,
        "--out-metrics", tmp_path / "m.json",
    ]  # fmt: skip
    assert run(*arguments) == 2
    assert "vocabulary" in capsys.readouterr().err
