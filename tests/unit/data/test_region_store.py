"""Reading region stores: by id, in batches, in several processes, and what broken files say."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import random
import shutil
import threading
from pathlib import Path

import lmdb
import numpy as np
import pytest
from region_samples import assert_equal, make_regions, make_schema

from lxmert import files
from lxmert.data.region_check import check_store, check_store_apart
from lxmert.data.region_handle import _handles
from lxmert.data.region_record import BOX_SLACK_PX, dump_json
from lxmert.data.region_store import ImageIds, RegionStore, fingerprint
from lxmert.data.region_writer import RegionWriter
from lxmert.errors import DataError


def write_store(path: Path, numbers: range, **options: object) -> Path:
    schema = make_schema(**options)
    with RegionWriter(path, schema) as writer:
        for number in numbers:
            writer.put(f"image_{number:03d}", make_regions(number, width=schema.feature_width))
        writer.finish({"weights": "abc"})
    return path


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "val2014.lmdb", range(20))


def test_regions_come_back_as_they_were_put(store_path: Path) -> None:
    store = RegionStore(store_path)
    assert len(store) == 20 and "image_007" in store and "image_7" not in store and 7 not in store
    assert store.schema == make_schema() and store.provenance == {"quarantined": [], "weights": "abc"}
    for number in range(20):
        regions = store.regions(f"image_{number:03d}")
        assert_equal(regions, make_regions(number))
        assert regions.features.dtype == np.float16 and regions.object_ids.dtype == np.int64
        for name, value in vars(regions).items():
            assert name in ("width", "height", "class_scores") or not value.flags.writeable, name


def test_ids_are_sorted_compact_and_searchable(store_path: Path) -> None:
    ids = RegionStore(store_path).ids
    assert isinstance(ids, ImageIds) and list(ids) == sorted(f"image_{n:03d}" for n in range(20))
    assert ids[0] == "image_000" and ids[-1] == "image_019" and list(ids[1:3]) == ["image_001", "image_002"]
    assert "image_019" in ids and "image_020" not in ids and "image_0190000000" not in ids
    assert ids.array.nbytes == 20 * len("image_000")


@pytest.mark.parametrize("name", ["", "image_00", "image_0000", "image_000\0", "é", "zzz", "\ud800"])
def test_a_missing_image_is_named_with_the_remedy(store_path: Path, name: str) -> None:
    store = RegionStore(store_path)
    assert name not in store and name not in store.ids
    for read in (store.regions, lambda name: store.positions(["image_001", name])):
        with pytest.raises(
            DataError, match=r"no regions for image .*store holds 20 images; remove .* snakemake"
        ):
            read(name)


def test_read_batch_converts_normalises_cuts_and_pads(store_path: Path) -> None:
    store = RegionStore(store_path)
    names = ["image_003", "image_011", "image_003"]
    for room in (3, 4, 6):
        features = np.full((3, room, 16), 9, np.float32)
        boxes, scores, attribute_scores = (
            np.full((3, room, 4), 9, np.float32),
            *np.full((2, 3, room), 9, np.float32),
        )
        mask, ids, attribute_ids = np.full((3, 3, room), 9)
        counts = store.read_batch(names, features, boxes, mask, ids, scores, attribute_ids, attribute_scores)
        kept = min(4, room)
        assert counts.tolist() == [kept] * 3
        for row, number in enumerate((3, 11, 3)):
            wanted = make_regions(number)
            np.testing.assert_array_equal(features[row, :kept], wanted.features[:kept].astype(np.float32))
            size = np.array([640, 480, 640, 480], np.float32)
            np.testing.assert_array_equal(boxes[row, :kept], wanted.boxes_px[:kept] / size)
            for array, name in (
                (ids, "object_ids"),
                (scores, "object_scores"),
                (attribute_ids, "attribute_ids"),
                (attribute_scores, "attribute_scores"),
            ):
                np.testing.assert_array_equal(array[row, :kept], getattr(wanted, name)[:kept], err_msg=name)
        assert mask[:, :kept].all() and mask.max() == 1
        for array in (features, boxes, mask, ids, scores, attribute_ids, attribute_scores):
            assert not array[:, kept:].any()


def test_read_batch_by_position_into_chosen_rows_and_as_stored(store_path: Path) -> None:
    store = RegionStore(store_path)
    features, boxes = np.full((4, 4, 16), 9, np.float16), np.full((4, 4, 4), 9, np.float32)
    mask = np.full((4, 4), 9)
    store.read_batch(np.array([5, 2]), features, boxes, mask, rows=[3, 1])
    for row, number in ((3, 5), (1, 2)):
        np.testing.assert_array_equal(features[row], make_regions(number).features)
        assert (mask[row] == 1).all() and boxes[row].max() <= 1
    for array in (features, boxes, mask):
        assert (array[[0, 2]] == 9).all()
    assert store.read_batch([], features[:0], boxes[:0], mask[:0]).tolist() == []


def test_views_outlive_their_store(store_path: Path) -> None:
    store = RegionStore(store_path)
    regions = store.regions("image_004")
    store.close()
    del store
    gc.collect()
    assert_equal(regions, make_regions(4))
    key = os.stat(store_path).st_dev, os.stat(store_path).st_ino
    assert key not in _handles, "the file is closed"
    assert_equal(regions, make_regions(4))
    assert len(_mappings(store_path)) == 1, "the view keeps its map"
    del regions
    assert not _mappings(store_path), "nothing else does"


def _mappings(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]


def test_a_thousand_open_close_cycles_leak_nothing(store_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        with RegionStore(store_path) as one, RegionStore(store_path) as other:
            assert len(one) == len(other)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_replaced_file_is_opened_beside_the_old_one(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.lmdb", range(3))
    old = RegionStore(path)
    assert len(old) == 3
    write_store(path, range(5))
    assert len(RegionStore(path)) == 5 and len(old) == 3


def test_pickles_as_a_path(store_path: Path) -> None:
    store = RegionStore(store_path)
    assert len(store) == 20
    copy = pickle.loads(pickle.dumps(store))
    assert copy._handle is None
    assert_equal(copy.regions("image_001"), make_regions(1))


def _read(stores: list[RegionStore], names: list[str], queue: object) -> None:
    total = sum(float(store.regions(name).features.sum()) for store in stores for name in names)
    queue.put(total)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("opened_before", [False, True])
def test_workers_of_every_start_method_share_a_file(
    store_path: Path, method: str, opened_before: bool
) -> None:
    names = [f"image_{number:03d}" for number in range(20)]
    stores = [RegionStore(store_path), RegionStore(store_path)]
    held = stores[0].regions("image_000") if opened_before else None
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [context.Process(target=_read, args=(stores, names, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    totals = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    wanted = sum(float(store.regions(name).features.sum()) for store in stores for name in names)
    assert totals == [wanted, wanted]
    if held is not None:
        assert_equal(held, make_regions(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_data_sets_on_one_file_in_a_loader(store_path: Path, workers: int) -> None:
    data = pytest.importorskip("torch.utils.data")

    class Images(data.Dataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.store = RegionStore(store_path)

        def __len__(self) -> int:
            return len(self.store)

        def __getitem__(self, position: int) -> float:
            return float(self.store.regions_at(position).features.sum())

    wanted = [float(make_regions(number).features.sum()) for number in range(20)]
    options = {"multiprocessing_context": "fork"} if workers else {}
    loaders = [data.DataLoader(Images(), 4, num_workers=workers, **options) for _ in range(2)]
    for loader in loaders:
        assert [value for batch in loader for value in batch.tolist()] == wanted


def test_an_inherited_view_stays_readable_in_a_child(store_path: Path) -> None:
    store = RegionStore(store_path)
    regions = store.regions("image_002")
    child = os.fork()
    if child == 0:
        right = np.array_equal(regions.features, make_regions(2).features)
        right &= np.array_equal(store.regions("image_003").features, make_regions(3).features)
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert_equal(regions, make_regions(2))


def test_threads_read_one_store(store_path: Path) -> None:
    store = RegionStore(store_path)
    faults: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            for number in random.Random(seed).choices(range(20), k=200):
                assert_equal(store.regions(f"image_{number:03d}"), make_regions(number))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_fingerprint_is_the_stores_own_digest(store_path: Path) -> None:
    wanted = {"size": store_path.stat().st_size, "sha256": RegionStore(store_path).digest}
    assert fingerprint(store_path) == files.fingerprint(store_path) == wanted


def test_what_is_no_store_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.lmdb").write_text("not an LMDB file\n" * 1000)
    (tmp_path / "empty.lmdb").write_bytes(b"")
    (tmp_path / "folder.lmdb").mkdir()
    other = lmdb.open(str(tmp_path / "other.lmdb"), subdir=False, lock=False, map_size=1 << 20)
    with other.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    other.close()
    for name, fault in (
        ("text", "not a region store"),
        ("empty", "not a region store"),
        ("folder", "is a folder"),
        ("other", "no finished region store"),
        ("absent", "no such region store"),
    ):
        path = tmp_path / f"{name}.lmdb"
        with pytest.raises(DataError, match=fault) as caught:
            len(RegionStore(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_older_version_is_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.lmdb", range(2))
    contents = RegionStore(path).contents
    environment = lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        transaction.put(b"contents", dump_json({**contents, "version": 0}).encode())
    environment.close()
    with pytest.raises(DataError, match="version 0, this code reads .* version 1; remove the file and run"):
        len(RegionStore(path))


def test_a_truncated_file_is_refused_not_read(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.lmdb", range(20), width=512)
    for size in (path.stat().st_size - 1, path.stat().st_size // 2, 5000, 100):
        short = tmp_path / f"{size}.lmdb"
        shutil.copy(path, short)
        os.truncate(short, size)
        with pytest.raises(DataError, match=str(short)) as caught:
            len(RegionStore(short))
        assert "\n" not in str(caught.value) and "snakemake" in str(caught.value)


def test_verify_names_the_image_whose_bytes_changed(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.lmdb", range(20), width=256)
    found = check_store(path)
    assert found["count"] == 20 and found["digest"] == RegionStore(path).digest
    data = bytearray(path.read_bytes())
    at = data.index(make_regions(13, width=256).features.tobytes()) + 100
    data[at] ^= 1
    bad = tmp_path / "bad.lmdb"
    bad.write_bytes(data)
    with pytest.raises(
        DataError, match=r"image image_013: its checksum differs.*remove it and run: snakemake"
    ):
        check_store(bad)
    with pytest.raises(DataError, match="image_013"):
        check_store_apart(bad)


def test_verify_survives_any_flipped_byte(tmp_path: Path) -> None:
    """A flip is found, or it hit bytes that mean nothing: then everything reads as before."""
    path = write_store(tmp_path / "a.lmdb", range(6), width=1024)
    original = path.read_bytes()
    rng = random.Random(0)
    found = 0
    places = [rng.randrange(len(original)) for _ in range(24)]
    for number, place in enumerate(places):
        damaged = bytearray(original)
        damaged[place] ^= 1 << rng.randrange(8)
        bad = tmp_path / f"{number}.lmdb"
        bad.write_bytes(damaged)
        child = os.fork()  # a wrong page number may kill the reader, as `verify` allows for
        if child == 0:
            try:
                same = check_store(bad)["digest"] == RegionStore(path).digest
                os._exit(0 if same else 9)
            except DataError as error:
                os._exit(2 if "\n" not in str(error) else 9)
            except BaseException:
                os._exit(9)
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) in (0, 2, -7, -11, -6), place
        found += status != 0
    assert found > 3


def test_a_box_may_leave_its_image_by_the_slack_only(tmp_path: Path) -> None:
    assert BOX_SLACK_PX == 1.0
    writer = RegionWriter(tmp_path / "a.lmdb", make_schema())
    for excess, fits in ((0.99, True), (1.5, False)):
        regions = make_regions(1)
        regions.boxes_px[0] = (-excess, -excess, 640 + excess, 480 + excess)
        if fits:
            writer.put("fits", regions)
        else:
            with pytest.raises(DataError, match="image leaves: a box leaves its 640x480 image"):
                writer.put("leaves", regions)
    writer.close()
