"""Answers are recomputed here from the scenes, without the code that made the questions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

SYNONYMS = {
    "little": "small", "tiny": "small", "big": "large", "spotted": "dotted", "crate": "box", "hoop": "ring",
    "hut": "house", "mug": "cup", "boxes": "box", "crosses": "cross",
}  # fmt: skip
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
KINDS = set("ball box star heart ring cross moon kite tree house cup fish".split())


def fitting(scene, phrase):
    """Objects that a noun phrase fits."""
    words = [SYNONYMS.get(word, word) for word in phrase.split() if word not in ("a", "an", "the")]
    words = [word[:-1] if word[:-1] in KINDS else word for word in words]
    words = [word for word in words if word not in ("thing", "things", "object", "objects")]
    return [o for o in scene.objects if all(word in (o.kind, o.color, o.texture, o.size) for word in words)]


def vqa_rows(raw):
    for split in ("train2014", "val2014"):
        scenes = {image.id: image.scene for image in raw.world.coco[split]}
        questions = raw.json(f"vqa/v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
        notes = raw.json(f"vqa/v2_mscoco_{split}_annotations.json")["annotations"]
        for question, note in zip(questions, notes, strict=True):
            yield scenes[question["image_id"]], question, note


def vqa_answer(scene, text):
    """The right answer of the questions understood here, else None."""
    forms = {
        r"What color is the (.*?)(?: in the picture)?\?": lambda p: one(fitting(scene, p)).color,
        r"What is the color of the (.*)\?": lambda p: one(fitting(scene, p)).color,
        r"How many (.*) (?:are there|are in the picture|can you see)\?": lambda p: str(
            len(fitting(scene, p))
        ),
        r"What kind of object is the (.*)\?": lambda p: one(fitting(scene, p)).kind,
        r"What pattern does the (.*) have\?": lambda p: one(fitting(scene, p)).texture,
        r"Is there (an? (?!.* and ).*?)(?: in the picture)?\?": lambda p: yes(fitting(scene, p)),
        r"Are there both (.*)\?": lambda p: yes(all(fitting(scene, part) for part in p.split(" and "))),
        r"What size is the (.*)\?": lambda p: one(fitting(scene, p)).size,
        r"(What covers the ground in this picture)\?": lambda _: scene.ground,
        r"(Was this picture taken indoors or outdoors)\?": lambda _: scene.place,
        r"Are the (.* and the .*) the same color\?": lambda p: yes(
            len({one(fitting(scene, part)).color for part in p.split(" and ")}) == 1
        ),
    }
    for form, answer in forms.items():
        match = re.fullmatch(form, text)
        if match and "in total" not in text and not text.startswith("How many objects"):
            return answer(match.group(1))
    return None


def one(things):
    assert len(things) == 1
    return things[0]


def yes(value):
    return "yes" if value else "no"


def test_vqa_answers_are_those_of_the_scene(middling):
    checked = right = 0
    for scene, question, note in vqa_rows(middling):
        truth = vqa_answer(scene, question["question"])
        if truth is not None:
            checked += 1
            right += truth == note["multiple_choice_answer"]
    # A few majorities go astray, as people's do.
    assert checked > 1200 and 0.97 < right / checked < 1


def run_program(graph, program):
    """Executes a GQA program on a scene graph of the published form."""
    objects, values = graph["objects"], []
    things = {key for key, thing in objects.items() if thing["attributes"]}
    for step in program:
        operation, argument = step["operation"], step["argument"]
        inputs = [values[at] for at in step["dependencies"]]
        named = re.search(r"\((\d+|-)\)$", argument)
        first, _, rest = operation.partition(" ")
        if operation == "select":
            if argument == "scene":
                values.append("scene")
                continue
            name = argument.split(" (")[0]
            values.append({key for key in things if name in ("thing", objects[key]["name"])})
        elif first == "filter":
            values.append({key for key in inputs[0] if argument in objects[key]["attributes"]})
        elif operation == "relate":
            relation = argument.split(",")[1]
            values.append({key for key in things for r in objects[key]["relations"]
                           if r["name"] == relation and {r["object"]} == inputs[0]})  # fmt: skip
            assert values[-1] == {named.group(1)}
        elif operation == "query" or (first == "choose" and inputs[0] == "scene"):
            part = argument if operation == "query" else rest
            if inputs[0] == "scene":
                big = [thing["name"] for thing in objects.values() if not thing["attributes"]]
                values.append(graph["location"] if part == "location" else big[0])
            else:
                (key,) = inputs[0]
                values.append(look(objects[key], part))
        elif operation in ("verify rel", "choose rel"):
            (anchor,) = inputs[0]
            names = [r["name"] for r in objects[named.group(1)]["relations"] if r["object"] == anchor]
            options = argument.split(",")[1].split("|")
            found = [name for name in options if name in names]
            short = {"to the left of": "left", "to the right of": "right"}
            values.append(yes(found) if operation == "verify rel" else short.get(found[0], found[0]))
        elif first == "verify":
            (key,) = inputs[0]
            values.append(yes(argument in objects[key]["attributes"]))
        elif first == "choose" and rest in ("smaller", "larger"):
            keys = [key for (key,) in inputs]
            wanted = {"smaller": "small", "larger": "large"}[rest]
            (winner,) = [key for key in keys if wanted in objects[key]["attributes"]]
            values.append(objects[winner]["name"])
        elif first == "choose":
            (key,) = inputs[0]
            (value,) = [value for value in argument.split("|") if value in objects[key]["attributes"]]
            values.append(value)
        elif operation == "exist":
            values.append(yes(inputs[0]))
        elif operation in ("and", "or"):
            values.append(yes((all if operation == "and" else any)(value == "yes" for value in inputs)))
        else:
            a, b = (look(objects[key], "color") for (key,) in inputs)
            values.append(yes((a == b) == (operation == "same color")))
    return values[-1]


def look(thing, part):
    return thing["name"] if part == "name" else thing["attributes"][["color", "pattern", "size"].index(part)]


def test_gqa_programs_compute_the_answers(middling):
    graphs = middling.json("gqa/val_sceneGraphs.json")
    records = middling.json("gqa/val_all_questions.json")
    structures = Counter()
    for key, record in records.items():
        graph = graphs[record["imageId"]]
        assert run_program(graph, record["semantic"]) == record["answer"], (key, record["semanticStr"])
        structures[record["types"]["structural"]] += 1
    assert set(structures) == {"verify", "query", "choose", "logical", "compare"}


def nlvr2_truth(left, right, sentence):
    """The label of the sentences understood here, else None."""
    both = (left, right)
    grounds = "grass|sand|snow|water|wood|carpet|tiles"
    forms = {
        rf"There (?:is|are) ({grounds}) in the (left|right) image\.": lambda g, s: (
            both[s == "right"].ground == g
        ),
        rf"The picture on the (left|right) shows ({grounds})\.": lambda s, g: both[s == "right"].ground == g,
        rf"There (?:is|are) ({grounds}) in both pictures\.": lambda g: left.ground == right.ground == g,
        r"The (left|right) picture was taken (\w+)\.": lambda s, p: both[s == "right"].place == p,
        r"Both pictures were taken (\w+)\.": lambda p: left.place == right.place == p,
        r"Exactly one of the pictures was taken (\w+)\.": lambda p: (left.place == p) != (right.place == p),
        r"The (left|right) image contains (.*)\.": lambda s, p: bool(fitting(both[s == "right"], p)),
        r"There is (.*) in the (left|right) image\.": lambda p, s: bool(fitting(both[s == "right"], p)),
        r"Both images contain (.*)\.": lambda p: all(fitting(scene, p) for scene in both),
        r"At least one image contains (.*)\.": lambda p: any(fitting(scene, p) for scene in both),
        r"Neither image contains (.*)\.": lambda p: not any(fitting(scene, p) for scene in both),
        r"One image has (.*) and the other does not\.": lambda p: sum(bool(fitting(s, p)) for s in both) == 1,
        r"The (left|right) image shows exactly (\w+) (\w+)\.": lambda s, n, p: (
            len(fitting(both[s == "right"], p)) == NUMBERS[n]
        ),
        r"There are exactly (\w+) (\w+) in total\.": lambda n, p: (
            sum(len(fitting(s, p)) for s in both) == NUMBERS[n]
        ),
        r"There are more (\w+) in the (left|right) image than .*": lambda p, s: (
            len(fitting(both[s == "right"], p)) > len(fitting(both[s == "left"], p))
        ),
    }
    for form, test in forms.items():
        match = re.fullmatch(form, sentence)
        if match:
            return test(*match.groups())
    return None


def test_nlvr2_labels_are_those_of_the_scenes(middling):
    checked = 0
    for split, sets in middling.world.nlvr2.items():
        by_id = {pair_set.id: pair_set for pair_set in sets}
        for line in middling.lines(f"nlvr2/data/{split}.json"):
            _, number, pair, _ = line["identifier"].split("-")
            truth = nlvr2_truth(*by_id[int(number)].pairs[int(pair)], line["sentence"])
            if truth is not None:
                checked += 1
                assert str(truth) == line["label"], line
    assert checked > 300


def yes_no_share(rows):
    counts = defaultdict(Counter)
    for group, answer in rows:
        if answer in ("yes", "no"):
            counts[group][answer] += 1
    return counts


def test_yes_and_no_are_even_in_every_kind_of_question(middling):
    asked = [(question["question"], note) for _, question, note in vqa_rows(middling)]
    rows = [(note["question_type"], note["multiple_choice_answer"]) for _, note in asked]
    for kind in KINDS:
        rows += [(kind, note["multiple_choice_answer"]) for text, note in asked if kind in text]
    records = middling.json("gqa/train_balanced_questions.json").values()
    rows += [(record["types"]["detailed"].removesuffix("C"), record["answer"]) for record in records]
    groups = yes_no_share(rows)
    assert len(groups) > 20
    for name, counts in groups.items():
        total = sum(counts.values())
        # Three standard deviations of a fair coin, and a little for majorities gone astray.
        assert abs(counts["yes"] / total - 0.5) < 0.03 + 1.5 / total**0.5, (name, counts)


def text_only_score(train, held_out):
    """Share right when every text gets its most frequent training answer, unknown texts their opening's."""
    tables = [defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)]
    for text, answer in train:
        for table, key in zip(tables, keys(text), strict=True):
            table[key][answer] += 1
    right = 0
    for text, answer in held_out:
        counts = [table[key] for table, key in zip(tables, keys(text), strict=True) if table[key]]
        enough = [count for count in counts if sum(count.values()) > 2] or counts
        right += enough[0].most_common(1)[0][0] == answer
    return right / len(held_out)


def keys(text):
    return text, " ".join(text.split()[:4]), ""


@pytest.fixture(scope="module")
def splits(middling):
    minival = set(middling.json("vqa/minival_ids.json"))
    rows = [(q["question"], n["multiple_choice_answer"], q["image_id"]) for _, q, n in vqa_rows(middling)]
    gqa = {
        split: [
            (r["question"], r["answer"])
            for r in middling.json(f"gqa/{split}_balanced_questions.json").values()
        ]
        for split in ("train", "val", "testdev")
    }
    nlvr2 = {
        split: [(line["sentence"], line["label"]) for line in middling.lines(f"nlvr2/data/{split}.json")]
        for split in ("train", "dev")
    }
    return {
        "vqa": ([r[:2] for r in rows if r[2] not in minival], [r[:2] for r in rows if r[2] in minival]),
        "gqa": (gqa["train"] + gqa["val"], gqa["testdev"]),
        "nlvr2": (nlvr2["train"], nlvr2["dev"]),
    }


@pytest.mark.parametrize(("task", "most"), [("vqa", 0.4), ("gqa", 0.4), ("nlvr2", 0.53)])
def test_the_text_alone_tells_little(splits, task, most):
    train, held_out = splits[task]
    score = text_only_score(train, held_out)
    majority = Counter(answer for _, answer in held_out).most_common(1)[0][1] / len(held_out)
    print(f"{task}: text only {score:.3f}, most frequent answer {majority:.3f}, {len(held_out)} examples")
    assert score < most and majority <= 0.53


def test_vqa_answers_are_frequent_enough_for_a_vocabulary(splits):
    counts = Counter(answer for _, answer in splits["vqa"][0] + splits["vqa"][1])
    frequent = {answer for answer, number in counts.items() if number >= 9}
    assert 30 <= len(frequent) <= 50
    assert sum(counts[answer] for answer in frequent) / sum(counts.values()) > 0.985
    assert (counts["yes"] + counts["no"]) / sum(counts.values()) < 0.4
