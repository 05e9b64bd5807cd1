"""GQA's splits of all questions: shards as the publisher has them, read where config.yaml names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lxmert.data.columns import Columns
from lxmert.data.wordpiece import train_vocabulary, write_vocabulary
from lxmert.errors import DataError, SpecError
from lxmert.specs import Plan, load_plan
from lxmert.tasks.prepare_cli import prepare
from lxmert.tasks.records import raw_files
from lxmert.tasks.score_cli import score
from lxmert.world.plan import plan_world
from lxmert.world.raw import RawFolder
from lxmert.world.spec import resolve
from lxmert.world.write_gqa import write_gqa

SHARDS = "gqa/train_all_questions/train_all_questions_{}.json"
WORLD = {
    "coco": {"train2014": 5, "val2014": 4, "minival": 2, "test2015": 6},
    "vg": {"images": 9, "train2014_twins": 2, "val2014_twins": 2, "detector_val": 1, "detector_test": 1},
    "gqa": {"val": 2, "testdev": 2, "test": 1, "challenge": 1, "questions": 8, "train_shards": 11},
    "nlvr2": {"train_sets": 2, "dev_sets": 1, "test1_sets": 1, "directories": 2},
}
SETTINGS = {"tasks": ["gqa"], "train_on": {"gqa": ["train_all", "valid"]}}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The embedded corpus's own GQA files, in eleven shards, and listings of their images."""
    write_gqa(plan_world(resolve(WORLD)), RawFolder(tmp_path / "raw"))
    records = [
        record
        for path in (tmp_path / "raw/gqa").rglob("*_questions*.json")
        for record in json.loads(path.read_text()).values()
    ]
    stems = sorted({record["imageId"] for record in records})
    images = [{"id": stem, "file": f"{stem}.jpg"} for stem in stems]
    (tmp_path / "images").mkdir()
    for name in ("vg_gqa", "gqa_testdev"):
        listing = {"image_set": name, "folder": "x", "subset": None, "images": images}
        (tmp_path / "images" / f"{name}.json").write_text(json.dumps(listing))
    texts = [record["question"] for record in records]
    write_vocabulary(train_vocabulary(texts, 300, 1), tmp_path / "vocab.txt")
    return tmp_path


def examples(world: Path, plan: Plan, name: str = "examples") -> dict[str, Columns]:
    """What the graph's job makes of a plan."""
    spec = json.loads(plan.prepare_spec("gqa"))
    folder, listings = world / name, sorted((world / "images").glob("*.json"))
    prepare(spec["task"], spec, world / "raw", world / "vocab.txt", listings, folder)
    return {path.stem: Columns(path) for path in folder.glob("*.safetensors")}


def ids(world: Path, name: str) -> list[str]:
    return list(json.loads((world / "raw" / name).read_text()))


def test_every_question_of_every_shard_can_be_trained_on(world: Path) -> None:
    found = examples(world, load_plan(SETTINGS))
    numbers = [number for shard in range(11) for number in ids(world, SHARDS.format(shard))]
    assert found["train_all"].strings("id").to_list() == numbers  # shard 10 after 9, not after 1
    balanced = ids(world, "gqa/train_balanced_questions.json")
    assert set(balanced) < set(numbers)
    assert found["train_all"].meta["labelled"] and found["train_all"].meta["answered"] > len(balanced)
    assert "valid_all" not in found
    usual = examples(world, load_plan({"tasks": ["gqa"]}), "usual")
    assert set(found) == {*usual, "train_all"}


def test_a_run_reads_them_by_one_key() -> None:
    plan, usual = load_plan(SETTINGS), load_plan({"tasks": ["gqa"]})
    assert json.loads(plan.finetune_spec("gqa"))["task"]["train_on"] == ["train_all", "valid"]
    assert "train_all" not in plan.predicted_splits("gqa")
    assert raw_name(plan) and not raw_name(usual)
    assert plan.pretrain_spec("pretrain") == usual.pretrain_spec("pretrain")
    full = load_plan({"corpus": "full", **SETTINGS})
    counts = json.loads(full.prepare_spec("gqa"))["counts"]
    assert raw_name(full) and counts["train_all"]["examples"] == 14305356
    assert raw_name(load_plan({"corpus": "full", "annotations": "published", **SETTINGS}))


def raw_name(plan: Plan) -> list[str]:
    return [name for name in plan.all_raw_files() if name == SHARDS.format("*")]


@pytest.mark.parametrize("annotations", ["rebuild", "published"])
def test_testdev_all_is_there_whoever_made_the_annotations(world: Path, annotations: str) -> None:
    settings = {"corpus": "full", "tasks": ["gqa"], "annotations": annotations}
    plan = load_plan({**settings, "further_splits": {"gqa": ["valid_all"]}})
    document = plan.example_document("gqa")
    assert document["splits"]["testdev_all"]["questions"] == "gqa/testdev_all_questions.json"
    assert document["splits"]["valid_all"]["questions"] == "gqa/val_all_questions.json"
    assert "valid_all" not in load_plan(settings).example_document("gqa")["splits"]
    if annotations == "published":
        lxmert = world / "raw/lxmert/gqa"
        lxmert.mkdir(parents=True)
        names = {"train": "train", "valid": "val", "testdev": "testdev", "submit": "testdev"}
        for split, name in names.items():
            records = json.loads((world / f"raw/gqa/{name}_balanced_questions.json").read_text())
            made = [
                {"question_id": n, "img_id": r["imageId"], "sent": r["question"], "label": {r["answer"]: 1.0}}
                for n, r in records.items()
            ]
            (lxmert / f"{split}.json").write_text(json.dumps(made))
    spec = json.loads(plan.prepare_spec("gqa"))
    table = world / "table.json"
    table.write_text(json.dumps(["no", "yes", "red", "green", "blue"]))
    listings = sorted((world / "images").glob("*.json"))
    spec["counts"] = {}
    prepare(spec["task"], spec, world / "raw", world / "vocab.txt", listings, world / "made", table)
    found = Columns(world / "made/testdev_all.safetensors").strings("id").to_list()
    assert found == ids(world, "gqa/testdev_all_questions.json")
    assert len(Columns(world / "made/valid_all.safetensors")) == len(ids(world, "gqa/val_all_questions.json"))


@pytest.mark.parametrize("subset", [None, 1])
def test_all_questions_of_valid_have_every_metric(world: Path, subset: int | None) -> None:
    plan = load_plan({"tasks": ["gqa"], "further_splits": {"gqa": ["valid_all"]}, "subset": subset})
    assert plan.scored_splits("gqa") == ["testdev", "valid_all"]
    records = json.loads((world / "raw/gqa/val_all_questions.json").read_text())
    if subset:
        path, shown = world / "images/vg_gqa.json", next(iter(records.values()))["imageId"]
        records = {number: record for number, record in records.items() if record["imageId"] == shown}
        images = [{"id": shown, "file": f"{shown}.jpg"}]
        path.write_text(json.dumps({**json.loads(path.read_text()), "subset": subset, "images": images}))
    found = examples(world, plan)["valid_all"]
    assert found.strings("id").to_list() == list(records) and bool(found.meta["dropped"]) == bool(subset)
    out = world / "valid_all_predict.json"
    given = [{"questionId": number, "prediction": record["answer"]} for number, record in records.items()]
    out.write_text(json.dumps(given))
    document = json.loads(plan.score_spec("gqa", "valid_all"))["task"]
    official = score(document, "valid_all", out, world / "examples", world / "raw")["official"]
    perfect = ("accuracy", "consistency", "validity", "plausibility")
    assert {name: official[name] for name in perfect} == dict.fromkeys(perfect, 1.0)


def test_names_of_shards(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        (tmp_path / f"part_{number}.json").touch()
    found = raw_files(tmp_path, ["one.json", "part_*.json"])
    assert [path.name for path in found] == ["one.json", "part_0.json", "part_9.json", "part_10.json"]
    with pytest.raises(DataError, match=r"shard_\*.json: no such file"):
        raw_files(tmp_path, "shard_*.json")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"train_on": {"gqa": ["train_al"]}}, 'train_on/gqa: unknown split "train_al" with answers'),
        ({"train_on": {"gqa": ["testdev"]}}, "train_on/gqa: the best weights are selected on testdev"),
        ({"train_on": {"gqa": ["submit"]}}, 'train_on/gqa: unknown split "submit" with answers to'),
        ({"train_on": {"qga": ["train"]}}, 'train_on/qga: unknown task "qga"'),
        ({"train_on": {"pretrain": ["train"]}}, 'train_on/pretrain: unknown task "pretrain"'),
        ({"train_on": {"gqa": []}}, "train_on/gqa: the list is too short"),
        ({"train_on": {"nlvr2": ["hidden"]}}, "train_on/nlvr2: corpus sample has no hidden"),
        (
            {"corpus": "full", "train_on": {"nlvr2": ["hidden"]}},
            "train_on/nlvr2: nobody published features of hidden",
        ),
    ],
)
def test_mistakes(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_plan(config)
    assert words in str(caught.value) and "\n" not in str(caught.value)
