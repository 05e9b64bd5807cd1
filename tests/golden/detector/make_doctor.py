"""Makes the picture and the numbers that `lxmert doctor` compares with.

    python tests/golden/detector/make_doctor.py

Numbers come from plain convolutions, one by one, in float32. A seed is taken only if

* no decision of any profile hangs on rounding: with every weight changed by one part in 100,000, ten times
  over, the same boxes are proposed and kept, in the same order;
* every other rule of the proposal layer gives other proposals, so that a mistake there shows;
* background is the likeliest class of some regions, and an object that of others.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from lxmert.detector import golden_stages as golden
from lxmert.detector.extract import Extractor
from lxmert.specs.documents import document_names

HEIGHT, WIDTH = 72, 128  # times 200 / 128 that is 112.5 rows: half to even is 112, half up 113
TRIALS = 10


def picture() -> Image.Image:
    """Soft colours, sharp shapes and some noise, so that every channel and edge counts."""
    rng = np.random.default_rng(17)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 8, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
    for _ in range(12):
        x, y = rng.integers(0, WIDTH - 12), rng.integers(0, HEIGHT - 12)
        w, h = rng.integers(6, 40), rng.integers(6, 30)
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    pixels += rng.integers(-12, 13, pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def shaken(extractor: Extractor, trial: int) -> Extractor:
    """The same extractor with every weight changed a little."""
    generator = torch.Generator().manual_seed(trial)
    with torch.no_grad():
        for value in extractor.model.parameters():
            noise = torch.empty_like(value).normal_(0, 1e-5, generator=generator)
            value.mul_(1 + noise)
    return extractor


def decisions_hold(name: str) -> bool:
    """Whether a profile decides the same with weights slightly changed."""
    profile = golden.read_profile(name)
    first = golden.run_stages(golden.doctor_extractor(profile, convolutions="plain"))
    for trial in range(TRIALS):
        again = golden.run_stages(shaken(golden.doctor_extractor(profile, convolutions="plain"), trial))
        for stage in ("proposals", "kept boxes"):
            for a, b in zip(first[stage], again[stage], strict=True):
                if a.shape != b.shape or np.abs(a - b).max() > 0.02:
                    return False
    return True


def rules_matter() -> bool:
    """Whether another rule of the proposal layer would give other proposals."""
    profile = golden.read_profile("lxmert-36")
    first = golden.run_stages(golden.doctor_extractor(profile))
    background = first["scores"][0].argmax(1) == 0
    if not 0.2 < background.mean() < 0.8:
        return False
    for change in ({"clip": "exclusive"}, {"min_side": "not_empty"}, {"nms": "plain"}):
        changed = replace(profile, proposals=replace(profile.proposals, **change))
        again = golden.run_stages(golden.doctor_extractor(changed))
        a, b = first["proposals"][0], again["proposals"][0]
        if a.shape == b.shape and np.abs(a - b).max() < 0.1:
            return False
    return True


def main() -> None:
    """Writes the files, with the first seed that does."""
    golden.FOLDER.mkdir(exist_ok=True)
    picture().save(golden.FOLDER / golden.PICTURE, optimize=True)
    names = [name for name in document_names("profile") if name != "sample-16"]
    for seed in range(1000):
        golden.SEED = seed
        if rules_matter() and all(map(decisions_hold, names)):
            break
    print(f"seed {seed}: golden_stages.SEED should be that")
    for name in names:
        profile = golden.read_profile(name)
        found = golden.run_stages(golden.doctor_extractor(profile, convolutions="plain"))
        document = {
            "profile": name,
            "version": profile.version,
            "stages": {stage: [golden.summary(a) for a in arrays] for stage, arrays in found.items()},
        }
        rounded = json.loads(json.dumps(document), parse_float=lambda text: float(f"{float(text):.7g}"))
        path = golden.FOLDER / f"{name}.json"
        path.write_text(json.dumps(rounded, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(found['proposals'][0])} proposals, {len(found['kept boxes'][0])} kept")


if __name__ == "__main__":
    main()
