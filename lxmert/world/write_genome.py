"""Visual Genome files, detector splits and vocabularies in their official form."""

from __future__ import annotations

from typing import Any

from lxmert.world import facts, vqa, words
from lxmert.world.captions import region_phrase
from lxmert.world.choosing import distinct
from lxmert.world.plan import GenomeImage, World
from lxmert.world.raw import RawFolder
from lxmert.world.rng import Stream
from lxmert.world.scenes import ALL_GROUNDS, BACKDROPS, COLORS, KINDS, SIZES, TEXTURES, Scene, SceneObject

Record = dict[str, Any]

# One class a line, synonyms after a comma.
OBJECT_LINES = [
    *(f"{kind},{words.KIND_SYNONYMS[kind]}" if kind in words.KIND_SYNONYMS else kind for kind in KINDS),
    *ALL_GROUNDS,
    *BACKDROPS.values(),
]
ATTRIBUTE_LINES = [
    *COLORS,
    *TEXTURES[:2],
    "dotted,spotted",
    *(",".join((size, *words.LOOK_SYNONYMS[size])) for size in SIZES),
]
RELATION_LINES = [
    "left of,to the left of",
    "right of,to the right of",
    "above,higher than",
    "below,under",
    "on,on top of",
]
PREDICATES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
QUESTION_MAKERS: dict[vqa.Maker, float] = {
    vqa.color_of: 0.34,
    vqa.kind_of: 0.2,
    vqa.texture_of: 0.12,
    vqa.ground_of: 0.1,
    vqa.how_many: 0.14,
    vqa.kind_beside: 0.1,
}


def int_box(thing: SceneObject) -> dict[str, int]:
    """x, y, w, h in whole pixels; like the published boxes they may start outside the image."""
    x, y = round(thing.box[0]), round(thing.box[1])
    return {"x": x, "y": y, "w": round(thing.box[2]) - x, "h": round(thing.box[3]) - y}


def _names(thing: SceneObject, stream: Stream) -> list[str]:
    """The class; sometimes a synonym, or with an adjective in front, as annotators do."""
    draw = stream.below(50)
    if draw == 0:
        return [f"{thing.color} {thing.kind}"]
    if draw < 4 and thing.kind in words.KIND_SYNONYMS:
        return [words.KIND_SYNONYMS[thing.kind]]
    return [thing.kind]


def image_objects(image: GenomeImage, stream: Stream) -> list[Record]:
    """The objects with their ids, boxes, names and attributes; the two surfaces come last."""
    scene, out = image.scene, []
    for thing in scene.objects:
        attributes = [synonym_of(value, stream) for value in (thing.color, thing.texture, thing.size)]
        if stream.chance(0.06):
            attributes = attributes[: stream.below(3)]
        names = _names(thing, stream)
        row = {
            "object_id": image.first_object + thing.depth,
            **int_box(thing),
            "names": names,
            "synsets": [f"{thing.kind}.n.01"],
        }
        out.append({**row, "attributes": attributes} if attributes else row)
    for position, (name, top, bottom) in enumerate(surfaces(scene)):
        box = {"x": 0, "y": top, "w": scene.width, "h": bottom - top}
        number = image.first_object + len(scene.objects) + position
        out.append({"object_id": number, **box, "names": [name], "synsets": [f"{name}.n.01"]})
    return out


def surfaces(scene: Scene) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    """(name, top, bottom) of the ground and of what is above it."""
    return (scene.ground, scene.horizon, scene.height), (scene.backdrop, 0, scene.horizon)


def synonym_of(value: str, stream: Stream) -> str:
    """Now and then another word for a look."""
    return words.synonym(value, stream, 0.08)


def image_relationships(image: GenomeImage, objects: list[Record]) -> list[Record]:
    """Clear relations between objects, and what stands on the ground."""
    scene, out = image.scene, []

    def end(position: int) -> Record:
        row = objects[position]
        return {
            "object_id": row["object_id"],
            **{key: row[key] for key in "xywh"},
            "name": row["names"][0],
            "synsets": row["synsets"],
        }

    def add(subject: int, predicate: str, other: int) -> None:
        number = image.first_object * 10 + len(out)
        out.append(
            {
                "relationship_id": number,
                "predicate": predicate,
                "synsets": [],
                "subject": end(subject),
                "object": end(other),
            }
        )

    for a in scene.objects:
        for b in scene.objects:
            for relation, predicate in PREDICATES.items():
                if a.depth < b.depth and facts.holds(scene, a, relation, b):
                    add(a.depth, predicate, b.depth)
        if a.center[1] > scene.horizon:
            add(a.depth, "on", len(scene.objects))
    return out


def image_regions(image: GenomeImage, stream: Stream, amount: int) -> list[Record]:
    """``amount`` phrases or one more for each object, and one for the ground; boxes are a little loose."""
    scene, out = image.scene, []

    def add(phrase: str, box: dict[str, int]) -> None:
        number = image.first_object * 10 + len(out)
        size = {"x": box["x"], "y": box["y"], "width": box["w"], "height": box["h"]}
        out.append({"region_id": number, "image_id": int(image.id), "phrase": phrase, **size})

    for thing in scene.objects:
        for _ in range(amount + stream.chance(0.5)):
            box = int_box(thing)
            looser = {
                "x": box["x"] - stream.below(3),
                "y": box["y"] - stream.below(3),
                "w": box["w"] + stream.below(5),
                "h": box["h"] + stream.below(5),
            }
            phrase = region_phrase(scene, thing, stream) + (" " if stream.chance(0.03) else "")
            add("" if stream.chance(0.002) else phrase, looser)
    ground = surfaces(scene)[0]
    add(
        stream.choice((f"the {ground[0]} on the ground", f"{ground[0]} {scene.place}", ground[0])),
        {"x": 0, "y": ground[1], "w": scene.width, "h": ground[2] - ground[1]},
    )
    return out


def _sentence(question: vqa.Question, stream: Stream) -> str:
    """The answer as VG writes it: capital and full stop."""
    answer = question.answer
    if question.answer_kind == "count":
        answer = words.NUMBER_WORDS[int(answer)]
    elif question.answer_kind == "kind" and stream.chance(0.5):
        answer = words.article(answer)
    return words.capital(answer) + "."


def image_questions(image: GenomeImage, stream: Stream, amount: int) -> list[Record]:
    """Question and answer pairs; "Where is the cup?" is asked too, and hardly any yes or no."""
    scene, out = image.scene, []
    pairs: dict[str, str] = {}
    for thing in stream.shuffled(scene.objects):
        if (
            amount
            and thing.center[1] > scene.horizon + 8
            and facts.count(scene, facts.Looks(thing.kind)) == 1
        ):
            pairs[f"Where is the {thing.kind}?"] = words.capital(words.GROUND_PHRASES[scene.ground]) + "."
            break
    found = distinct(scene, stream, amount, QUESTION_MAKERS, lambda item: (item.text, item.answer))
    pairs.update({question.text: _sentence(question, stream) for question in found})
    for position, (text, answer) in enumerate(list(pairs.items())[:amount]):
        number = image.first_object * 10 + position
        out.append(
            {
                "qa_id": number,
                "image_id": int(image.id),
                "question": text,
                "answer": answer,
                "q_objects": [],
                "a_objects": [],
            }
        )
    return out


def image_data(image: GenomeImage) -> Record:
    """Size, url and the ids elsewhere; the second-last part of the url is the folder."""
    return {
        "image_id": int(image.id),
        "url": f"https://images.example.org/vg/{image.folder}/{image.id}.jpg",
        "width": image.scene.width,
        "height": image.scene.height,
        "coco_id": image.coco.id if image.coco else None,
        "flickr_id": None if image.serial % 20 == 0 else 4_000_000 + image.serial,
    }


def write_genome(world: World, raw: RawFolder) -> None:
    """All Visual Genome files, in the order of image ids."""
    seed, sizes = world.spec["seed"], world.spec["vg"]
    tables: dict[str, list[Record]] = {
        name: []
        for name in (
            "image_data",
            "objects",
            "attributes",
            "relationships",
            "region_descriptions",
            "question_answers",
            "scene_graphs",
        )
    }
    counts = dict.fromkeys(tables, 0)

    def add(name: str, record: Record, amount_of_records: int) -> None:
        tables[name].append(record)
        counts[name] += amount_of_records

    for image in world.genome:
        stream = Stream(seed, "genome", image.serial)
        number, objects = int(image.id), image_objects(image, stream)
        relations = image_relationships(image, objects)
        bare = [{key: value for key, value in row.items() if key != "attributes"} for row in objects]
        ends = [
            {key: row[key] for key in ("relationship_id", "predicate", "synsets")}
            | {"subject_id": row["subject"]["object_id"], "object_id": row["object"]["object_id"]}
            for row in relations
        ]
        regions = image_regions(image, stream, sizes["phrases"])
        pairs = image_questions(image, stream, sizes["questions"])
        url = image_data(image)["url"]
        add("image_data", image_data(image), 1)
        add("objects", {"image_id": number, "objects": bare, "image_url": url}, len(bare))
        add("attributes", {"image_id": number, "attributes": objects}, len(objects))
        add("relationships", {"image_id": number, "relationships": relations}, len(relations))
        add("region_descriptions", {"id": number, "regions": regions}, len(regions))
        add("question_answers", {"id": number, "qas": pairs}, len(pairs))
        add("scene_graphs", {"image_id": number, "objects": objects, "relationships": ends}, 1)
    for name, table in tables.items():
        raw.put_json(f"vg/{name}.json", table, counts[name])
    for name, images in world.detector.items():
        raw.put_lines(
            f"vg/splits/{name}.txt", (f"{image.folder}/{image.id}.jpg xml/{image.id}.xml" for image in images)
        )
    vocabularies = {"objects": OBJECT_LINES, "attributes": ATTRIBUTE_LINES, "relations": RELATION_LINES}
    for name, lines in vocabularies.items():
        raw.put_text(f"vg/{name}_vocab.txt", "\n".join(lines), len(lines))
