"""The raw files have the fields, types, names and links of the published ones."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from PIL import Image

SHORT = {"imageId": str, "question": str, "isBalanced": bool}
FULL = SHORT | {
    "answer": str,
    "fullAnswer": str,
    "semantic": list,
    "semanticStr": str,
    "entailed": list,
    "equivalent": list,
    "types": dict,
    "groups": dict,
    "annotations": dict,
}
QUESTION_FILES = ("train2014", "val2014", "test2015", "test-dev2015")


def has_types(record, fields):
    assert set(record) == set(fields), (set(record) ^ set(fields), record)
    for name, kind in fields.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        assert type(record[name]) in kinds, (name, record[name])


def test_vqa_question_files(tiny):
    head = {
        "info": dict,
        "task_type": str,
        "data_type": str,
        "license": dict,
        "data_subtype": str,
        "questions": list,
    }
    for split in QUESTION_FILES:
        value = tiny.json(f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")
        has_types(value, head)
        assert (
            value["task_type"] == "Open-Ended"
            and value["data_type"] == "mscoco"
            and value["data_subtype"] == split
        )
        assert set(value["info"]) == {"description", "url", "version", "year", "contributor", "date_created"}
        ids = [question["question_id"] for question in value["questions"]]
        assert len(ids) == len(set(ids)) > 0
        for question in value["questions"]:
            has_types(question, {"image_id": int, "question_id": int, "question": str})
            assert question["question_id"] // 1000 == question["image_id"] and question["question"].endswith(
                "?"
            )
            folder = split.replace("test-dev", "test")
            assert (tiny.root / f"coco/{folder}/COCO_{folder}_{question['image_id']:012d}.jpg").exists()
    dev, test = (
        tiny.json(f"vqa/v2_OpenEnded_mscoco_{s}_questions.json")["questions"]
        for s in ("test-dev2015", "test2015")
    )
    assert len(dev) < len(test) and all(question in test for question in dev)


def test_vqa_annotations(tiny):
    fields = {
        "question_type": str,
        "multiple_choice_answer": str,
        "answers": list,
        "image_id": int,
        "answer_type": str,
        "question_id": int,
    }
    for split in ("train2014", "val2014"):
        value = tiny.json(f"vqa/v2_mscoco_{split}_annotations.json")
        assert set(value) == {"info", "license", "data_type", "data_subtype", "annotations"}
        questions = tiny.json(f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
        assert [q["question_id"] for q in questions] == [a["question_id"] for a in value["annotations"]]
        for question, note in zip(questions, value["annotations"], strict=True):
            has_types(note, fields)
            assert [answer["answer_id"] for answer in note["answers"]] == list(range(1, 11))
            votes = Counter(answer["answer"] for answer in note["answers"])
            assert votes[note["multiple_choice_answer"]] == max(votes.values())
            assert {answer["answer_confidence"] for answer in note["answers"]} <= {"yes", "maybe", "no"}
            prefix = note["question_type"]
            assert prefix == "none of the above" or question["question"].lower().startswith(prefix)
            said = note["multiple_choice_answer"]
            kind = "yes/no" if said in ("yes", "no") else "number" if said.isdigit() else "other"
            assert note["answer_type"] == kind


def test_people_disagree_but_most_are_right(middling):
    notes = middling.json("vqa/v2_mscoco_train2014_annotations.json")["annotations"]
    shares = [sum(a["answer"] == note["multiple_choice_answer"] for a in note["answers"]) for note in notes]
    assert sum(share == 10 for share in shares) / len(shares) < 0.5
    assert sum(share >= 4 for share in shares) / len(shares) > 0.98


def test_complementary_pairs(middling):
    for split in ("train2014", "val2014"):
        questions = {
            q["question_id"]: q
            for q in middling.json(f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
        }
        answers = {
            a["question_id"]: a["multiple_choice_answer"]
            for a in middling.json(f"vqa/v2_mscoco_{split}_annotations.json")["annotations"]
        }
        pairs = middling.json(f"vqa/v2_mscoco_{split}_complementary_pairs.json")
        assert len(pairs) > 50 and len({key for pair in pairs for key in pair}) == 2 * len(pairs)
        for one, other in pairs:
            assert questions[one]["question"] == questions[other]["question"]
            assert (
                questions[one]["image_id"] != questions[other]["image_id"] and answers[one] != answers[other]
            )


def test_minival_is_a_part_of_val_and_not_its_beginning(middling):
    minival = set(middling.json("vqa/minival_ids.json"))
    ids = sorted(image["id"] for image in middling.json("coco/annotations/captions_val2014.json")["images"])
    assert len(minival) == 90 and minival < set(ids) and minival != set(ids[:90])


def test_coco_files(tiny):
    every = []
    for split, name in (
        ("train2014", "captions_train2014"),
        ("val2014", "captions_val2014"),
        ("test2015", "image_info_test2015"),
    ):
        value = tiny.json(f"coco/annotations/{name}.json")
        last = "categories" if split == "test2015" else "annotations"
        assert set(value) == {"info", "images", "licenses", last}
        for image in value["images"]:
            has_types(
                image,
                {
                    "id": int,
                    "file_name": str,
                    "width": int,
                    "height": int,
                    "license": int,
                    "coco_url": str,
                    "flickr_url": str,
                    "date_captured": str,
                },
            )
            assert image["file_name"] == f"COCO_{split}_{image['id']:012d}.jpg"
            with Image.open(tiny.root / "coco" / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) and picture.format == "JPEG"
        every += [image["id"] for image in value["images"]]
        if split != "test2015":
            captions = Counter(note["image_id"] for note in value["annotations"])
            assert set(captions) == {image["id"] for image in value["images"]} and min(captions.values()) >= 5
            assert len({note["id"] for note in value["annotations"]}) == len(value["annotations"])
            assert all(4 < len(note["caption"].split()) < 18 for note in value["annotations"])
    assert len(every) == len(set(every))


def gqa(raw, name):
    return raw.json(f"gqa/{name}_questions.json")


def train_all(raw):
    shards = [raw.json(f"gqa/train_all_questions/train_all_questions_{n}.json") for n in range(2)]
    assert not set(shards[0]) & set(shards[1])
    return shards[0] | shards[1]


def test_gqa_question_files(tiny):
    submission = {}
    for split in ("train", "val", "testdev", "test", "challenge"):
        everything = train_all(tiny) if split == "train" else gqa(tiny, f"{split}_all")
        balanced = gqa(tiny, f"{split}_balanced")
        fields = SHORT if split in ("test", "challenge") else FULL
        assert 0 < len(balanced) < len(everything)
        assert balanced == {key: record for key, record in everything.items() if record["isBalanced"]}
        for key, record in everything.items():
            has_types(record, fields)
            assert key.isdigit() and key.startswith("0") and len(key) == 9
            assert record["imageId"].startswith("n") == (split not in ("train", "val"))
            assert (tiny.root / f"gqa/images/{record['imageId']}.jpg").exists()
        if split != "train":
            submission |= {key: {name: record[name] for name in SHORT} for key, record in everything.items()}
    assert gqa(tiny, "submission_all") == submission


def test_gqa_links_types_and_annotations(middling):
    records = train_all(middling)
    graphs = middling.json("gqa/train_sceneGraphs.json")
    linked = 0
    for key, record in records.items():
        assert key in record["equivalent"]
        for other in record["equivalent"]:
            assert (
                records[other]["answer"] == record["answer"]
                and records[other]["imageId"] == record["imageId"]
            )
        for other in record["entailed"]:
            assert records[other]["imageId"] == record["imageId"]
            linked += other != key
        assert set(record["types"]) == {"structural", "semantic", "detailed"}
        assert record["types"]["semantic"] in ("obj", "attr", "cat", "rel", "global")
        assert set(record["groups"]) == {"global", "local"}
        assert (record["groups"]["global"] is None) == (record["answer"] in ("yes", "no"))
        words = record["question"].split()
        for where, thing in record["annotations"]["question"].items():
            start, _, end = where.partition(":")
            said = " ".join(words[int(start) : int(end or int(start) + 1)]).strip("?,.")
            name = graphs[record["imageId"]]["objects"][thing]["name"]
            assert said.split()[-1] in (name, "thing"), (said, name)
        steps = record["semantic"]
        assert all(need < at for at, step in enumerate(steps) for need in step["dependencies"])
        assert all(set(step) == {"operation", "dependencies", "argument"} for step in steps)
        assert record["semanticStr"].count("->") == len(steps) - 1
    assert linked > 500


def test_gqa_scene_graphs_and_choices(tiny):
    for split in ("train", "val"):
        for image, graph in tiny.json(f"gqa/{split}_sceneGraphs.json").items():
            has_types(graph, {"width": int, "height": int, "location": str, "objects": dict})
            with Image.open(tiny.root / f"gqa/images/{image}.jpg") as picture:
                assert picture.size == (graph["width"], graph["height"])
            for thing in graph["objects"].values():
                has_types(
                    thing,
                    {
                        "name": str,
                        "x": int,
                        "y": int,
                        "w": int,
                        "h": int,
                        "attributes": list,
                        "relations": list,
                    },
                )
                assert 0 <= thing["x"] and thing["x"] + thing["w"] <= graph["width"] and thing["h"] > 0
                assert all(relation["object"] in graph["objects"] for relation in thing["relations"])
    records, choices = gqa(tiny, "val_all"), tiny.json("gqa/val_choices.json")
    assert set(choices) == set(records)
    for key, choice in choices.items():
        assert records[key]["answer"] in choice["plausible"]
        assert set(choice["plausible"]) <= set(choice["valid"])


def test_nlvr2_lines(tiny):
    fields = dict.fromkeys(
        ("identifier", "sentence", "label", "left_url", "right_url", "synset", "query", "writer"), str
    )
    for split in ("train", "dev", "test1"):
        lines = tiny.lines(f"nlvr2/data/{split}.json")
        assert len({line["identifier"] for line in lines}) == len(lines) > 0
        extra = {"directory": int} if split == "train" else {"extra_validations": dict}
        for line in lines:
            has_types(line, fields | {"validation": dict} | extra)
            name, _, pair, _ = line["identifier"].split("-")
            assert name == split and pair in "0123" and line["label"] in ("True", "False")
            assert list(line["validation"].values()) == [line["label"]]
            folder = f"train/{line['directory']}" if split == "train" else split
            stem = line["identifier"].rpartition("-")[0]
            for side in (0, 1):
                with Image.open(tiny.root / f"nlvr2/images/{folder}/{stem}-img{side}.png") as picture:
                    assert picture.convert("RGB").size[0] >= 150
            assert len(line["sentence"].split()) <= 18 and line["sentence"].isascii()


def test_nlvr2_groups_are_balanced(middling):
    for split in ("train", "dev", "test1"):
        groups = defaultdict(list)
        for line in middling.lines(f"nlvr2/data/{split}.json"):
            name, number, _, sentence = line["identifier"].split("-")
            groups[name, number, sentence].append(line)
        for lines in groups.values():
            assert len({line["sentence"] for line in lines}) == 1 and len(lines) in (2, 4)
            assert Counter(line["label"] for line in lines) == {
                "True": len(lines) // 2,
                "False": len(lines) // 2,
            }


def test_genome_files(tiny):
    data = tiny.json("vg/image_data.json")
    ids = [image["image_id"] for image in data]
    coco = {image.id for split in ("train2014", "val2014") for image in tiny.world.coco[split]}
    assert sum(image["coco_id"] in coco for image in data) == 4 and len(set(ids)) == 7
    for image in data:
        has_types(
            image,
            {
                "image_id": int,
                "url": str,
                "width": int,
                "height": int,
                "coco_id": (int, type(None)),
                "flickr_id": (int, type(None)),
            },
        )
        path = tiny.root / "vg" / "/".join(image["url"].split("/")[-2:])
        with Image.open(path) as picture:
            assert picture.size == (image["width"], image["height"])
        assert path.read_bytes() == (tiny.root / f"gqa/images/{image['image_id']}.jpg").read_bytes()
    for name, key in (
        ("objects", "objects"),
        ("attributes", "attributes"),
        ("relationships", "relationships"),
    ):
        assert [record["image_id"] for record in tiny.json(f"vg/{name}.json")] == ids
        assert all(isinstance(record[key], list) for record in tiny.json(f"vg/{name}.json"))
    for name, key in (("region_descriptions", "regions"), ("question_answers", "qas")):
        assert [record["id"] for record in tiny.json(f"vg/{name}.json")] == ids
        assert all(set(record) == {"id", key} for record in tiny.json(f"vg/{name}.json"))


def test_genome_records(middling):
    box = {"x": int, "y": int, "w": int, "h": int}
    known = {line.split(",")[0] for line in (middling.root / "vg/objects_vocab.txt").read_text().split("\n")}
    synonyms = {
        w
        for line in (middling.root / "vg/objects_vocab.txt").read_text().split("\n")
        for w in line.split(",")
    }
    looks = {
        w
        for line in (middling.root / "vg/attributes_vocab.txt").read_text().split("\n")
        for w in line.split(",")
    }
    assert len(known) == 8 + 7 + 2 and not (middling.root / "vg/objects_vocab.txt").read_text().endswith("\n")
    seen: Counter[str] = Counter()
    sizes = {image["image_id"]: image for image in middling.json("vg/image_data.json")}
    for record in middling.json("vg/attributes.json"):
        for thing in record["attributes"]:
            fields = {"object_id": int, "names": list, "synsets": list, **box}
            has_types(thing, fields | ({"attributes": list} if "attributes" in thing else {}))
            seen["objects"] += 1
            seen["bare"] += "attributes" not in thing
            seen["adjective"] += " " in thing["names"][0]
            seen["outside"] += thing["x"] < 0 or thing["y"] < 0
            seen["beyond"] += thing["x"] + thing["w"] > sizes[record["image_id"]]["width"]
            assert thing["names"][0].split()[-1] in synonyms and set(thing.get("attributes", [])) <= looks
    assert all(seen[name] > 0 for name in ("bare", "adjective", "outside", "beyond")), seen
    for record in middling.json("vg/region_descriptions.json"):
        for region in record["regions"]:
            has_types(
                region,
                {
                    "region_id": int,
                    "image_id": int,
                    "phrase": str,
                    "x": int,
                    "y": int,
                    "width": int,
                    "height": int,
                },
            )
    for record in middling.json("vg/question_answers.json"):
        for pair in record["qas"]:
            has_types(
                pair,
                {
                    "qa_id": int,
                    "image_id": int,
                    "question": str,
                    "answer": str,
                    "q_objects": list,
                    "a_objects": list,
                },
            )
            assert pair["answer"][0].isupper() and pair["answer"].endswith(".")
    for record in middling.json("vg/relationships.json"):
        for relation in record["relationships"]:
            assert set(relation) == {"relationship_id", "predicate", "synsets", "subject", "object"}
            has_types(relation["subject"], {"object_id": int, "name": str, "synsets": list, **box})


def test_twins_show_the_same_scene_in_another_resolution(tiny):
    twins = [image for image in tiny.world.genome if image.coco]
    for image in twins:
        assert image.scene.width > image.coco.scene.width
        assert [t.kind for t in image.scene.objects] == [t.kind for t in image.coco.scene.objects]


def test_detector_splits_part_the_images(tiny):
    lines = [
        line
        for name in ("train", "val", "test")
        for line in (tiny.root / f"vg/splits/{name}.txt").read_text().splitlines()
    ]
    assert len(lines) == len(set(lines)) == 7
    for line in lines:
        picture, xml = line.split(" ")
        assert (tiny.root / "vg" / picture).exists() and xml == f"xml/{picture.split('/')[1][:-4]}.xml"


def test_gqa_test_images_are_coco_test_images(tiny):
    names = {p.stem for p in (tiny.root / "gqa/images").iterdir() if p.stem.startswith("n")}
    assert len(names) == 4
    for name in names:
        file = tiny.root / f"coco/test2015/COCO_test2015_{int(name[1:]):012d}.jpg"
        assert file.read_bytes() == (tiny.root / f"gqa/images/{name}.jpg").read_bytes()


@pytest.mark.parametrize(
    "text", ["What color is the cup?", "How many red things are there?", "Strange words?"]
)
def test_question_type_is_the_longest_prefix(text):
    from lxmert.world.write_vqa import question_type

    assert question_type(text) in ("what color is the", "how many", "none of the above")
