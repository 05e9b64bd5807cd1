"""Writes average_hash.json: what the library `imagehash` (4.3.2) makes of drawn pictures and of real ones.

pip install imagehash==4.3.2
python tests/golden/assets/make_average_hash.py ../shared/data/coco10
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def drawn() -> dict[str, bytes]:
    """Lossless pictures of every kind, the same bytes of pixels on every machine."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:57, 0:83]
    waves = np.stack([127 + 120 * np.sin(x / a + y / b) for a, b in ((9, 13), (21, 7), (5, 30))], 2)
    colours = waves.astype(np.uint8)
    noise = rng.integers(0, 256, (40, 64, 4), dtype=np.uint8)
    pictures = {
        "waves.png": Image.fromarray(colours),
        "waves.bmp": Image.fromarray(colours[:, ::-1]),
        "grey.png": Image.fromarray(colours[:, :, 1]),
        "alpha.png": Image.fromarray(noise),
        "palette.gif": Image.fromarray(np.repeat(np.repeat(noise[:8, :8, 0], 9, 0), 7, 1) // 32 * 32),
        "deep.png": Image.fromarray(((x * 500 + y * 200) % 65536).astype(np.uint16)),
        "flat.png": Image.new("RGB", (30, 30), (90, 90, 90)),
        "small.png": Image.fromarray(noise[:16, :16, :3]),
    }
    made = {}
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        picture.save(buffer, name.rpartition(".")[2].upper())
        made[name] = buffer.getvalue()
    return made


def main() -> None:
    pictures = drawn()
    photographs = {path.name: path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))}
    hashes = {
        name: str(imagehash.average_hash(Image.open(io.BytesIO(body))))
        for name, body in (pictures | photographs).items()
    }
    (HERE / "average_hash.json").write_text(json.dumps(hashes, indent=4) + "\n")


if __name__ == "__main__":
    main()
