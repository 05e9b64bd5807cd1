"""The shipped catalogue: well formed, and able to give every raw file of the published corpora."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lxmert.assets.asset import BRANCHES, DEFAULT_BRANCHES, Asset
from lxmert.assets.catalogue import FOLDER, expand_targets, load_catalogue
from lxmert.assets.mirrors import hint, sources
from lxmert.assets.places import Places, Settings, missing_name
from lxmert.assets.planning import crawled_assets, named_crawls, needed_assets, plan_download
from lxmert.errors import SpecError
from lxmert.specs import Plan, load_plan
from lxmert.specs.documents import PACKAGE

CATALOGUE = load_catalogue()
_ALL_DATASETS = [yaml.safe_load(path.read_text()) for path in sorted(PACKAGE.glob("datasets/*.yaml"))]
DATASETS = [dataset for dataset in _ALL_DATASETS if "full" in dataset.get("corpora", ["full"])]


def _image_sets(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    return list(dataset.get("image_sets", {}).values())


def test_counts() -> None:
    assert len(list(FOLDER.glob("*.yaml"))) >= 9
    assert len(CATALOGUE.assets) >= 110


def test_every_raw_file_has_an_asset() -> None:
    wanted = [f"raw/{name}" for dataset in DATASETS for name in dataset["files"]]
    folders = [f"raw/{entry['folder']}" for dataset in DATASETS for entry in _image_sets(dataset)]
    assert len(wanted) > 30 and len(folders) >= 9
    for place in wanted:
        assert place in CATALOGUE.producer(place).places()
    members = [member for asset in CATALOGUE.assets.values() for member in asset.members if member.pattern]
    for folder in folders:
        assert any(member.place == folder or member.place.startswith(f"{folder}/") for member in members), (
            folder
        )


def test_image_counts_agree_with_the_datasets() -> None:
    members = [member for asset in CATALOGUE.assets.values() for member in asset.members]
    checked = 0
    for dataset in DATASETS:
        for entry in _image_sets(dataset):
            folder = f"raw/{entry['folder']}"
            files = sum(member.files or 0 for member in members if member.place.startswith(folder))
            if "only_gqa" not in entry:
                assert files == entry["images"], folder
                checked += 1
    assert checked >= 8


@pytest.mark.parametrize("asset", CATALOGUE.assets.values(), ids=lambda asset: asset.id)
def test_each_asset(asset) -> None:  # type: ignore[no-untyped-def]
    assert asset.download_bytes, "no size to plan by"
    assert sources(asset, Settings()) or hint(asset), "no way to get it"
    schemes = [url.partition(":")[0] for source in sources(asset, Settings()) for url in source.urls]
    assert schemes == sorted(schemes, reverse=True), "https before http"
    for place in asset.places():
        assert CATALOGUE.producer(place) is asset
    assert "{" not in repr((asset.id, asset.file, asset.what, asset.mirrors)).replace("{'", "").replace(
        '{"', ""
    )
    if not asset.fetchable:
        assert all(way["page"].startswith("https://") for way in asset.by_hand)


def test_published_checksums_are_those_of_the_real_files(shared_data: Path) -> None:
    files = {
        "bert_vocab": "bert/vocab.txt",
        "lxmert_answers": "lxmert/all_ans.json",
        "lxmert_vqa_ans2label": "vqa/trainval_ans2label.json",
        "lxmert_vqa_label2ans": "vqa/trainval_label2ans.json",
        "lxmert_gqa_ans2label": "gqa/trainval_ans2label.json",
        "lxmert_gqa_label2ans": "gqa/trainval_label2ans.json",
        "nlvr2_dev": "nlvr2/dev.json",
        "nlvr2_test1": "nlvr2/test1.json",
        "vg_objects_vocab": "butd/objects_vocab.txt",
        "vg_attributes_vocab": "butd/attributes_vocab.txt",
        "vg_relations_vocab": "butd/relations_vocab.txt",
    }
    for name, file in files.items():
        body = (shared_data / file).read_bytes()
        assert CATALOGUE[name].bytes == len(body), name
        assert CATALOGUE[name].sha256 == hashlib.sha256(body).hexdigest(), name


def test_the_vocabulary_of_the_full_corpus_is_an_asset() -> None:
    corpus = yaml.safe_load((PACKAGE / "corpora" / "full.yaml").read_text())
    assert CATALOGUE.producer(f"raw/{corpus['vocabulary']['asset']}").id == "bert_vocab"


ALL_BRANCHES = [dict(zip(BRANCHES, choice, strict=True)) for choice in itertools.product(*BRANCHES.values())]
TASKS = ("vqa", "gqa", "nlvr2")
SOME_TASKS = [list(names) for number in (1, 2, 3) for names in itertools.combinations(TASKS, number)]


@pytest.mark.parametrize("branches", ALL_BRANCHES, ids=lambda branches: "-".join(branches.values()))
def test_the_catalogue_and_the_graph_agree_on_what_is_needed(branches: dict[str, str]) -> None:
    for tasks in SOME_TASKS:
        plan = load_plan({"corpus": "full", "tasks": tasks, **branches})
        assert needed_assets(plan, CATALOGUE) == CATALOGUE.needed(tasks, branches), tasks
    assert needed_assets(load_plan({"tasks": ["vqa"]}), CATALOGUE) == []


# Hosts that users found dead, or silent for days or years, and what of an address is theirs.
UNRELIABLE = re.compile(
    r"^https?://((nlp|nlp1)\.cs\.unc\.edu|www\.dropbox\.com|storage\.googleapis\.com/(bottom-up|up-down)-attention"
    r"|(\w+\.)*visualgenome\.org|cs\.stanford\.edu/people/rak248|homes\.cs\.washington\.edu|goo\.gl)"
)
DEAD = re.compile(r"//((\w+\.)*visualgenome\.org|www\.dropbox\.com/s/bacig173qnxddvz|evalai\.cloudcv\.org)")


def _is_unreliable(asset: Asset) -> bool:
    """Whether nothing but hosts with long outages offers it to a program."""
    urls = [url for source in sources(asset, Settings()) for url in source.urls]
    return all(UNRELIABLE.match(url) for url in urls)


def test_dead_hosts_are_never_asked() -> None:
    for asset in CATALOGUE.assets.values():
        for source in sources(asset, Settings()):
            assert not any(DEAD.search(url) for url in source.urls), asset.id
    retired = [entry["url"] for asset in CATALOGUE.assets.values() for entry in asset.retired]
    assert sum(bool(DEAD.search(url)) for url in retired) == len(retired) >= 8


# Each of them dead for a while, or for good; a person may still bring what it had.
HOSTS = {
    "UNC": r"^https?://(nlp|nlp1)\.cs\.unc\.edu/",
    "Dropbox": r"^https?://www\.dropbox\.com/",
    "the detector's buckets": r"^https?://storage\.googleapis\.com/(bottom-up|up-down)-attention/",
    "Stanford's Visual Genome": r"^https?://cs\.stanford\.edu/people/rak248/",
    "Washington's Visual Genome": r"^https?://homes\.cs\.washington\.edu/",
    "the model hub": r"^https?://huggingface\.co/",
    "GitHub": r"^https?://raw\.githubusercontent\.com/lil-lab/nlvr/master/",
}
STAGES = ("pretrain", "detector")
RESULTS = (*TASKS, *STAGES)


def _hangs_on(asset: Asset, host: str) -> bool:
    """Whether nobody but one host offers it to a program; what no program can fetch is nobody's."""
    urls = [url for source in sources(asset, Settings()) for url in source.urls]
    return all(re.match(host, url) for url in urls)


@functools.cache
def _ways(result: str) -> list[set[str]]:
    """Ways to a result: the assets of each choice of keys, with one more host among weights and detectors."""
    choices: dict[str, list[str]] = {"detector": ["train", "download", "detector_hub"]}
    choices["weights"] = (
        ["pretrain"] if result in STAGES else ["download", "lxmert_hub_pretrained", "pretrain"]
    )
    if result == "detector":
        choices["features"] = ["extract"]
    else:
        choices |= {"features": ["download", "extract"], "annotations": ["rebuild", "published"]}
        choices |= (
            {"nlvr2_images": ["archive", "crawl"]}
            if result == "nlvr2"
            else {"minival": ["published", "drawn"]}
        )
    choices["detector_images"] = ["genome", "gqa"]
    found = []
    for choice in itertools.product(*choices.values()):
        settings = dict(zip(choices, choice, strict=True))
        trains = settings["detector"] == "train" and settings["features"] == "extract"
        if settings.get("minival") == "drawn" and settings["annotations"] == "published":
            continue  # refused: these are of the published one
        if not trains and settings["detector_images"] == "gqa":
            continue  # nobody reads them
        if settings["features"] == "download" and settings["detector"] != "download":
            continue  # nor is a detector asked for
        plan = load_plan({"corpus": "full", "tasks": ["vqa" if result in STAGES else result], **settings})
        needed = _of_detector(plan) if result == "detector" else needed_assets(plan, CATALOGUE)
        found.append({asset.id for asset in needed})
    return found


def _of_detector(plan: Plan) -> list[Asset]:
    """What a detector's weights are made of, or the asset they are."""
    if not plan.trains_detector():
        return CATALOGUE.read_together([str(plan.published_detector())])
    files = [*plan.detector_files(), plan.image_set("vg")["folder"]]
    made_of = [asset for name in files for asset in CATALOGUE.providers(f"raw/{name}")]
    return [*made_of, CATALOGUE["detector_imagenet"]]


@pytest.mark.parametrize("task", TASKS)
def test_no_result_depends_on_a_host_that_may_be_dead(task: str) -> None:
    """All unreliable hosts at once: images and texts lie elsewhere, and so do copies of all weights."""
    shaky = [{name for name in way if _is_unreliable(CATALOGUE[name])} for way in _ways(task)]
    assert set() in shaky
    union = set.union(*shaky)
    assert len(union) >= 15
    for name in union:
        assert CATALOGUE[name].otherwise, f"{name}: says not what does without it"


def test_nobody_else_lists_the_published_minival() -> None:
    """Chosen by LXMERT's author; anybody's copy of the list will do, and a drawn one does without."""
    asset = CATALOGUE["lxmert_vqa_minival"]
    assert _is_unreliable(asset) and asset.by_hand and "minival: drawn" in str(asset.otherwise)
    assert any(asset.id not in way for way in _ways("vqa"))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("result", RESULTS)
def test_no_single_host_is_needed_for_a_result(result: str, host: str) -> None:
    without = [
        way for way in _ways(result) if not any(_hangs_on(CATALOGUE[name], HOSTS[host]) for name in way)
    ]
    assert without, f"{result} cannot be had without {host}"
    assert len(_ways(result)) >= 4


def test_what_hangs_on_a_single_host_is_known() -> None:
    """The test above can fail: each host has something that nobody else offers, if no result needs it."""
    counts = {
        host: sum(
            _hangs_on(asset, words) and bool(sources(asset, Settings()))
            for asset in CATALOGUE.assets.values()
        )
        for host, words in HOSTS.items()
    }
    assert counts["UNC"] > 50 and counts["Washington's Visual Genome"] == 7
    assert counts["Stanford's Visual Genome"] == 2 and counts["the model hub"] >= 3


def test_pretraining_here_when_every_unreliable_host_is_dead() -> None:
    """The official texts of Visual Genome are then out of reach; LXMERT's own can be brought by hand."""
    shaky = [{name for name in way if _is_unreliable(CATALOGUE[name])} for way in _ways("pretrain")]
    texts = {"vg_image_data", "vg_region_descriptions", "vg_question_answers"}
    assert min(shaky, key=len) == texts and not any(CATALOGUE[name].by_hand for name in texts)
    brought = [left for left in shaky if all(CATALOGUE[name].by_hand for name in left)]
    parts = {
        f"lxmert_pretrain_{part}"
        for part in ("mscoco_train", "mscoco_nominival", "mscoco_minival", "vgnococo")
    }
    assert brought and all(parts <= left for left in brought)
    for name in texts:
        assert "annotations: published" in str(CATALOGUE[name].otherwise)


def test_a_detector_when_every_unreliable_host_is_dead() -> None:
    """Published weights have a copy on the model hub; training here has only the pictures elsewhere."""
    shaky = [{name for name in way if _is_unreliable(CATALOGUE[name])} for way in _ways("detector")]
    assert set() in shaky
    trained = [left for left in shaky if "vg_attributes" in left]
    texts = {"vg_image_data", "vg_attributes", "vg_scene_graphs"}
    assert min(trained, key=len) == texts and texts | {"vg_images_1", "vg_images_2"} in trained
    for name in texts:
        assert "detector: download" in str(CATALOGUE[name].otherwise)


def test_a_crawl_needs_hashes_and_no_archive() -> None:
    choices: dict[str, Any] = {"corpus": "full", "tasks": ["nlvr2"], "features": "extract"}
    choices["further_splits"] = {"nlvr2": ["hidden"]}
    archive, crawl = (load_plan({**choices, "nlvr2_images": name}) for name in ("archive", "crawl"))
    needed = {
        name: {asset.id for asset in needed_assets(plan, CATALOGUE)}
        for name, plan in (("a", archive), ("c", crawl))
    }
    splits = ("train", "dev", "test1", "test2")
    assert needed["a"] - needed["c"] == {f"nlvr2_images_{split}" for split in splits}
    assert needed["c"] - needed["a"] == {f"nlvr2_hashes_{split}" for split in splits[:3]}
    assert [asset.id for asset in crawled_assets(crawl, CATALOGUE)] == [f"nlvr2_images_{s}" for s in splits]
    assert crawled_assets(archive, CATALOGUE) == []
    assert crawled_assets(load_plan({"corpus": "full", "nlvr2_images": "crawl"}), CATALOGUE) == []
    with pytest.raises(SpecError, match='nlvr2_images: corpus sample has no "crawl"'):
        load_plan({"nlvr2_images": "crawl"})


def test_the_plan_tells_of_a_crawl_and_its_terms(tmp_path: Path) -> None:
    plan = load_plan({"corpus": "full", "tasks": ["nlvr2"], "features": "extract", "nlvr2_images": "crawl"})
    crawled, places = crawled_assets(plan, CATALOGUE), Places(tmp_path)
    asked = plan_download([], places, Settings(), crawled=crawled)
    assert "accept_terms: [nlvr2_images]" in asked.text("plan") and "the form" not in asked.text("plan")
    assert asked.groups["crawl"] == crawled and asked.by_hand_bytes == 0
    accepted = Settings(accept_terms=("nlvr2_images",))
    found = plan_download([], places, accepted, crawled=crawled)
    assert found.groups["crawl"] == crawled and not found.is_complete and found.fetch_bytes == 0
    assert found.disk_bytes == sum(asset.unpacked_bytes for asset in crawled) > 20e9
    assert "to crawl                  19 GB  nlvr2_images_train" in found.text("plan")
    assert "; to crawl: 22 GB in 3; by hand: 0 bytes in 0;" in found.text("plan")
    assert "accept_terms" not in found.text("plan")
    branches = {**DEFAULT_BRANCHES, "features": "extract"}
    assert named_crawls(["nlvr2"], {**branches, "nlvr2_images": "crawl"}, CATALOGUE) == crawled
    assert named_crawls(["nlvr2"], branches, CATALOGUE) == []
    for asset in crawled:
        places.crawls.mkdir(parents=True, exist_ok=True)
        (places.crawls / missing_name(asset.id)).write_text("{}")
    assert plan_download([], places, accepted, crawled=crawled).is_complete


def test_a_drawn_minival_needs_nobodys_list() -> None:
    choice = {"features": "extract", "detector": "detector_hub", "weights": "lxmert_hub_pretrained"}
    plan = load_plan({"corpus": "full", "tasks": ["vqa"], "minival": "drawn", **choice})
    needed = needed_assets(plan, CATALOGUE)
    assert len(needed) >= 10 and not any(_is_unreliable(asset) for asset in needed)


def test_weights_have_copies_on_other_hosts() -> None:
    published = load_plan({"corpus": "full"}).corpus["published"]
    for known in (published["systems"]["lxmert"]["weights"], published["detector"]):
        assert len(known) >= 3 and any(not _is_unreliable(CATALOGUE[name]) for name in known)
    plan = load_plan({"corpus": "full", "features": "extract", "detector": "detector_hub"})
    names = {asset.id for asset in needed_assets(plan, CATALOGUE)}
    assert {"detector_hub", "detector_hub_config"} <= names and "detector_caffe36" not in names


def test_branches_add_stages() -> None:
    raw = {**DEFAULT_BRANCHES, "features": "extract", "weights": "pretrain", "detector": "train"}
    assert expand_targets(["nlvr2"], raw) == ["nlvr2", "pretrain", "detector"]
    assert expand_targets(["nlvr2"], DEFAULT_BRANCHES) == ["nlvr2"]
    assert expand_targets(["detector"], raw) == ["detector"]
    names = {asset.id for asset in CATALOGUE.needed(["nlvr2"], DEFAULT_BRANCHES)}
    assert {"lxmert_features_nlvr2_train", "lxmert_pretrained", "bert_vocab"} <= names
    assert not any("images" in name for name in names)


def test_figures_follow_the_numbers_of_records() -> None:
    records = {name: entry["records"] for dataset in DATASETS for name, entry in dataset["files"].items()}
    shares = {
        "lxmert_vqa_train": (443757, 130, 330),
        "lxmert_vqa_nominival": (188360, 130, 330),
        "lxmert_vqa_minival": (25994, 130, 330),
        "lxmert_vqa_test": (447793, 100, 250),
        "lxmert_gqa_train": (943000, 130, 330),
        "lxmert_gqa_valid": (132062, 130, 330),
        "lxmert_gqa_testdev": (12578, 130, 330),
        "lxmert_gqa_submit": (4237524, 100, 250),
        "lxmert_nlvr2_train": (86373, 200, 400),
        "nlvr2_train": (86373, 400, 700),
        "nlvr2_dev": (6982, 400, 700),
        "nlvr2_hashes_train": (103170, 35, 60),
        "nlvr2_hashes_dev": (8102, 35, 60),
        "nlvr2_hashes_test1": (8082, 35, 60),
    }
    for name, (count, least, most) in shares.items():
        assert least < CATALOGUE[name].download_bytes / count < most, name
    parts = [asset for asset in CATALOGUE.assets.values() if asset.id.startswith("lxmert_pretrain_")]
    assert len(parts) == 4 and 680e6 < sum(asset.download_bytes for asset in parts) < 720e6
    questions = CATALOGUE["gqa_questions"]
    for member in questions.members:
        assert member.about_bytes, member
        if member.name:
            short = member.name.startswith(("submission", "test_", "challenge"))
            count = records.get(member.place.removeprefix("raw/"))
            if count:
                assert (80 if short else 700) < member.about_bytes / count < (160 if short else 1500), member
    assert 1.5e9 < questions.unpacked_bytes < 2.5e9
    assert questions.unpacked_bytes_of(questions.members) > 18e9


def test_what_is_left_out_by_default_has_a_figure_of_its_own() -> None:
    left_out = [
        member for asset in CATALOGUE.assets.values() for member in asset.members if member.on_request
    ]
    assert len(left_out) >= 6 and all(member.about_bytes for member in left_out)


def test_alternates_that_the_evidence_names() -> None:
    """One word of each row of what users and publishers say where files lie."""
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    for word in (
        "1Gq1uLUk6NdD0CcJOptXjxE6ssY5XAuat", "1m0mUVsq30rO6F1slxPZNHA", "1L2TM9Y_KZsl4x28CJe9H82_P39gGyhTe",
        "10I7rrxjR0-N9K-9NHVFImo4nh0qliqbQ", "unc-nlp/lxmert-base-uncased", "unc-nlp/lxmert-vqa-uncased",
        "unc-nlp/lxmert-gqa-uncased", "unc-nlp/frcnn-vg-finetuned", "github_pretrain/lxmert/Epoch",
        "github_pretrain/lxmert20/Epoch", "lxrt_noqa/Epoch19", "MILVLG/rosita", "sid.erda.dk",
        "sharepoint.com",
        "bottom-up-attention/trainval_36.zip", "2h4hmgcvpaewizu", "nu6jwhc88ujbw1v", "5xethd2nxa8qrnq",
        "tr24q7h0zm2wnjv", "faster_rcnn_from_caffe_attr_original.pkl", "nlvr2/{split}.json",
        "s3.amazonaws.com/images.cocodataset.org/zips/train2014.zip", "rak248/VG_100K_2/images2.zip",
        "e3ed4cf656c79e87191f14733023136c54e83c5c/nlvr2/data/test2.json", "nlp.stanford.edu/data/gqa",
    ):  # fmt: skip
        assert word in text, word


def test_no_package_registry_is_named() -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    assert not re.search(
        r"pypi|pythonhosted|conda\.|npmjs|jfrog|artifactory|nexus|crates\.io", text, re.IGNORECASE
    )


def _document(tmp_path: Path, **changes: object) -> Path:
    entry = {"what": "a thing", "file": "g/a.json", "place": "raw/g/a.json", "mirrors": ["https://h/a.json"]}
    entry = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    document = {"catalogue": "g", "version": 1, "title": "t", "licence": "MIT", "assets": {"a": entry}}
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    (folder / "g.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_documents_that_cannot_be(tmp_path: Path) -> None:
    assert load_catalogue(_document(tmp_path))["a"].place == "raw/g/a.json"
    for changes, words in [
        ({"place": "../x"}, ["g.yaml", "assets/a/place", "../x"]),
        ({"mirrors": ["ftp://h/x"]}, ["g.yaml", "assets/a/mirrors/0"]),
        ({"mirrors": []}, ["g.yaml", "a/mirrors", "manual"]),
        ({"sha256": "12"}, ["assets/a/sha256", "12"]),
        ({"file": "g/a.zip"}, ["assets/a", "an archive has members"]),
        ({"place": None}, ["assets/a", "any other file a place"]),
        ({"colour": 1}, ["assets/a/colour", "unknown setting"]),
        ({"derived": [{"place": "raw/b", "by": "coco_image_ids", "of": "raw/c"}]}, ["raw/c is not a place"]),
        (
            {"derived": [{"place": "raw/b", "by": "coco_ids", "of": "raw/g/a.json"}]},
            ["assets/a/derived: coco_ids: unknown", '"coco_image_ids"'],
        ),
        ({"mirrors": ["http://[h/x"]}, ["assets/a/mirrors", "http://[h/x", "no web address"]),
        ({"mirrors": ["https:///x"]}, ["assets/a/mirrors", "names no host"]),
        ({"about_bytes": {"x": 5}}, ["assets/a/about_bytes", "one for every value of `each`"]),
    ]:
        with pytest.raises(SpecError) as caught:
            load_catalogue(_document(tmp_path, **changes))
        for word in words:
            assert word in str(caught.value), caught.value


def test_names_that_are_taken(tmp_path: Path) -> None:
    folder = _document(tmp_path)
    document = yaml.safe_load((folder / "g.yaml").read_text())
    document["assets"]["b"] = dict(document["assets"]["a"], file="g/b.json")
    (folder / "g.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(SpecError, match=r"b: place raw/g/a.json belongs to a already"):
        load_catalogue(folder)


def test_unknown_names() -> None:
    with pytest.raises(
        SpecError, match='vqa_questions_trains: unknown asset. Did you mean "vqa_questions_train"'
    ):
        CATALOGUE["vqa_questions_trains"]
    with pytest.raises(SpecError, match="raw/vqa/none.json: no asset of the catalogue gives this file"):
        CATALOGUE.producer("raw/vqa/none.json")
    with pytest.raises(SpecError, match='vqq: unknown target of the assets. Did you mean "vqa"'):
        CATALOGUE.needed(["vqq"], DEFAULT_BRANCHES)
    assert CATALOGUE.producer("raw/coco/val2014/COCO_val2014_000000000042.jpg").id == "coco_images_val2014"
