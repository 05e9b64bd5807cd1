from __future__ import annotations

from collections import Counter

from lxmert.world import facts
from lxmert.world.facts import Looks
from lxmert.world.rng import Stream
from lxmert.world.scenes import MOST_HIDDEN, Scene, SceneObject, hidden_share, overlap_share, sample_scene


def scenes(count: int) -> list[Scene]:
    return [sample_scene(Stream(11, "scenes", index)) for index in range(count)]


def test_scenes_overlap_touch_edges_differ_in_size_and_repeat():
    seen: Counter[str] = Counter()
    total = 250
    for scene in scenes(total):
        boxes = [thing.box for thing in scene.objects]
        assert 1 <= len(boxes) <= 6 and all(thing.depth == at for at, thing in enumerate(scene.objects))
        assert 150 <= min(scene.width, scene.height) and max(scene.width, scene.height) <= 220
        assert all(
            hidden_share(at, boxes, scene.width, scene.height) <= MOST_HIDDEN for at in range(len(boxes))
        )
        pairs = [overlap_share(a, b) for at, a in enumerate(boxes) for b in boxes[:at]]
        seen["overlap"] += any(share > 0.08 for share in pairs)
        seen["edge"] += any(b[0] < 0 or b[1] < 0 or b[2] > scene.width or b[3] > scene.height for b in boxes)
        kinds = Counter(thing.kind for thing in scene.objects)
        looks = Counter((thing.kind, thing.color) for thing in scene.objects)
        seen["repeat"] += max(kinds.values()) > 1
        seen["equal"] += max(looks.values()) > 1
        seen["sizes"] += len({thing.size for thing in scene.objects}) == 2
        seen["portrait"] += scene.height > scene.width
    for name, least in {
        "overlap": 0.2,
        "edge": 0.15,
        "repeat": 0.35,
        "equal": 0.12,
        "sizes": 0.5,
        "portrait": 0.25,
    }.items():
        assert seen[name] > least * total, (name, seen[name])


def test_scaled_scene_keeps_its_content():
    scene = scenes(1)[0]
    other = scene.scaled(1.5)
    assert other.width == round(scene.width * 1.5)
    for a, b in zip(scene.objects, other.objects, strict=True):
        assert (a.kind, a.color, a.depth) == (b.kind, b.color, b.depth)
        assert abs(a.center[0] / scene.width - b.center[0] / other.width) < 1e-9


def stage(*things: tuple[str, str, float, float]) -> Scene:
    objects = tuple(
        SceneObject(kind, color, "plain", "small", (x - 10, y - 10, x + 10, y + 10), at)
        for at, (kind, color, x, y) in enumerate(things)
    )
    return Scene(200, 100, "indoors", "wood", 40, 0, objects)


def test_relations_need_a_clear_margin():
    scene = stage(("ball", "red", 50, 50), ("cup", "red", 60, 50), ("star", "blue", 150, 50))
    ball, cup, star = scene.objects
    assert facts.holds(scene, ball, "left", cup) is None
    assert facts.holds(scene, ball, "left", star) is True and facts.holds(scene, ball, "right", star) is False
    assert facts.holds(scene, ball, "above", star) is None


def test_descriptions_are_unique_or_none():
    scene = stage(("ball", "red", 20, 50), ("ball", "red", 90, 50), ("ball", "blue", 160, 50))
    stream = Stream(1)
    assert facts.describe(scene, scene.objects[0], stream) is None
    assert facts.describe(scene, scene.objects[2], stream) == Looks("ball", "blue")
    assert facts.describe(scene, scene.objects[2], stream, hide=("color",)) is None


def test_streams_are_independent_and_fair():
    a, b = Stream(1, "a"), Stream(1, "b")
    assert [a.below(1000) for _ in range(5)] != [b.below(1000) for _ in range(5)]
    stream = Stream(5)
    draws = Counter(stream.weighted({"x": 1.0, "y": 3.0}) for _ in range(4000))
    assert 0.22 < draws["x"] / 4000 < 0.28
    assert sorted(stream.shuffled(range(9))) == list(range(9))
    assert stream.sample([], 3) == []
