"""GQA questions, scene graphs and choices in their official form."""

from __future__ import annotations

import re
from typing import Any

from lxmert.world.facts import RELATIONS, holds
from lxmert.world.gqa import drafts_for
from lxmert.world.gqa_drafts import RELATION_NAMES, Draft
from lxmert.world.plan import GenomeImage, World
from lxmert.world.raw import RawFolder
from lxmert.world.rng import Stream, digest_number
from lxmert.world.scenes import ALL_GROUNDS, BACKDROPS, COLORS, KINDS, PLACES, SIZES, TEXTURES

Record = dict[str, Any]
SHORT_FIELDS = ("imageId", "question", "isBalanced")
SHORT_SPLITS = ("test", "challenge")
VALID = {
    "color": COLORS,
    "pattern": TEXTURES,
    "size": SIZES,
    "object": KINDS,
    "place": PLACES,
    "ground": ALL_GROUNDS,
    "hposition": ("left", "right"),
    "vposition": ("above", "below"),
    None: ("yes", "no"),
}


def slices(text: str, mentions: list[tuple[str, str]]) -> dict[str, str]:
    """Word slice -> object id for every phrase that occurs in the text: "4", or half-open "4:6"."""
    bare = [word.strip("?.,").lower() for word in text.split()]
    out: dict[str, str] = {}
    for phrase, thing in mentions:
        parts = phrase.split()
        for start in range(len(bare) - len(parts) + 1):
            key = str(start) if len(parts) == 1 else f"{start}:{start + len(parts)}"
            if bare[start : start + len(parts)] == parts and key not in out:
                out[key] = thing
                break
    return out


def full_record(draft: Draft, text: str, image: GenomeImage, balanced: bool) -> Record:
    """The official fields of one question, without its links to others."""

    def with_ids(argument: str) -> str:
        return re.sub(r"\{(\d+)\}", lambda match: str(image.first_object + int(match.group(1))), argument)

    program = [
        {"operation": operation, "dependencies": list(needs), "argument": with_ids(argument)}
        for operation, needs, argument in draft.program
    ]
    printed = "->".join(
        f"{step['operation']}: {step['argument']}"
        + (f" {step['dependencies']}" if step["dependencies"] else "")
        for step in program
    )
    mentions = [(phrase, str(image.first_object + depth)) for phrase, depth in draft.mentions]
    return {
        "semantic": program,
        "entailed": [],
        "equivalent": [],
        "question": text,
        "imageId": image.id,
        "isBalanced": balanced,
        "groups": {"global": draft.group, "local": draft.local},
        "answer": draft.answer,
        "semanticStr": printed,
        "annotations": {
            "question": slices(text, mentions),
            "answer": slices(draft.answer, mentions),
            "fullAnswer": slices(draft.full_answer, mentions),
        },
        "types": {"structural": draft.structural, "semantic": draft.semantic, "detailed": draft.detailed},
        "fullAnswer": draft.full_answer,
    }


def image_records(image: GenomeImage, seed: int, amount: int) -> dict[str, Record]:
    """All questions about one image: the balanced ones, paraphrases of some, and what they entail."""
    stream = Stream(seed, "gqa", image.id)
    records: dict[str, Record] = {}
    by_text: dict[str, str] = {}

    def add(draft: Draft, text: str, balanced: bool) -> str:
        if text in by_text:
            return by_text[text]
        # Ids of one image are spread by a small fixed stride, with leading zeros.
        question_id = f"{image.serial * 1000 + len(records) * 3 + 1:09d}"
        records[question_id] = full_record(draft, text, image, balanced)
        by_text[text] = question_id
        return question_id

    drafts = drafts_for(image.scene, stream, amount)
    chosen = [(draft, stream.choice(draft.texts)) for draft in drafts]
    first_ids = [add(draft, text, True) for draft, text in chosen]
    for (draft, text), question_id in zip(chosen, first_ids, strict=True):
        same = [question_id]
        if stream.chance(0.3):
            others = [other for other in draft.texts if other != text]
            same.append(add(draft, stream.choice(others), False))
        follows = []
        for implied in draft.implied:
            if stream.chance(0.4):
                follows.append(add(implied, implied.texts[0], False))
        for member in same:
            links = records[member]
            links["equivalent"] = list(dict.fromkeys([*links["equivalent"], *same]))
            links["entailed"] = list(dict.fromkeys([*links["entailed"], *same, *follows]))
        for member in follows:
            records[member]["equivalent"] = records[member]["equivalent"] or [member]
    return records


def scene_graph(image: GenomeImage) -> Record:
    """One entry of the scene graph files; boxes are cut to the image."""
    scene = image.scene
    objects: Record = {}
    for thing in scene.objects:
        x1, y1 = max(0, round(thing.box[0])), max(0, round(thing.box[1]))
        x2, y2 = min(scene.width, round(thing.box[2])), min(scene.height, round(thing.box[3]))
        relations = [
            {"name": RELATION_NAMES[relation], "object": str(image.first_object + other.depth)}
            for other in scene.objects
            for relation in RELATIONS
            if other is not thing and holds(scene, thing, relation, other)
        ]
        objects[str(image.first_object + thing.depth)] = {
            "name": thing.kind,
            "x": x1,
            "y": y1,
            "w": x2 - x1,
            "h": y2 - y1,
            "attributes": [thing.color, thing.texture, thing.size],
            "relations": relations,
        }
    surfaces = ((scene.ground, scene.horizon, scene.height), (BACKDROPS[scene.place], 0, scene.horizon))
    for position, (name, top, bottom) in enumerate(surfaces):
        objects[str(image.first_object + len(scene.objects) + position)] = {
            "name": name,
            "x": 0,
            "y": top,
            "w": scene.width,
            "h": bottom - top,
            "attributes": [],
            "relations": [],
        }
    return {"width": scene.width, "height": scene.height, "location": scene.place, "objects": objects}


def choices(record: Record, image: GenomeImage) -> Record:
    """Valid answers fit the question's kind; plausible ones occur in the picture, or are yes and no."""
    group = record["groups"]["global"]
    valid = list(VALID[group])
    seen = {
        getattr(thing, part) for thing in image.scene.objects for part in ("kind", "color", "texture", "size")
    }
    plausible = [answer for answer in valid if answer in seen or group is None]
    if record["answer"] not in plausible:
        plausible.append(record["answer"])
    return {"valid": valid, "plausible": plausible}


def _balanced(records: dict[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if record["isBalanced"]}


def _short(records: dict[str, Record]) -> dict[str, Record]:
    return {key: {field: record[field] for field in SHORT_FIELDS} for key, record in records.items()}


def _write_train(records: dict[str, Record], shards: int, raw: RawFolder) -> None:
    parts: list[dict[str, Record]] = [{} for _ in range(shards)]
    for key, record in records.items():
        parts[digest_number("gqa shard", key) % shards][key] = record
    for number, part in enumerate(parts):
        raw.put_json(f"gqa/train_all_questions/train_all_questions_{number}.json", part, len(part))


def write_gqa(world: World, raw: RawFolder) -> None:
    """All GQA files. submission_all joins val, testdev, test and challenge, in short form."""
    sizes = world.spec["gqa"]
    submission: dict[str, Record] = {}
    for split, images in world.gqa.items():
        by_image = {image.id: image for image in images}
        records: dict[str, Record] = {}
        for image in images:
            records.update(image_records(image, world.spec["seed"], sizes["questions"]))
        if split == "train":
            _write_train(records, sizes["train_shards"], raw)
        else:
            submission.update(_short(records))
            shown = _short(records) if split in SHORT_SPLITS else records
            raw.put_json(f"gqa/{split}_all_questions.json", shown, len(shown))
        balanced = _balanced(records)
        shown = _short(balanced) if split in SHORT_SPLITS else balanced
        raw.put_json(f"gqa/{split}_balanced_questions.json", shown, len(shown))
        if split == "val":
            table = {key: choices(record, by_image[record["imageId"]]) for key, record in records.items()}
            raw.put_json("gqa/val_choices.json", table, len(table))
        if split in ("train", "val"):
            graphs = {image.id: scene_graph(image) for image in images}
            raw.put_json(f"gqa/{split}_sceneGraphs.json", graphs, len(graphs))
    raw.put_json("gqa/submission_all_questions.json", submission, len(submission))
