"""Any image: the same bits whichever way it comes; damaged ones are refused in one line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lxmert.detector.preprocess import decode_image
from lxmert.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def png(image: Image.Image, form: str = "PNG", **options) -> bytes:
    handle = io.BytesIO()
    image.save(handle, form, **options)
    return handle.getvalue()


def test_every_way_gives_the_same_bits(tmp_path):
    data = png(Image.fromarray(RGB))
    (tmp_path / "a.png").write_bytes(data)
    expected = RGB[:, :, ::-1]
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), data, Image.fromarray(RGB)):
        np.testing.assert_array_equal(decode_image(source), expected)
    np.testing.assert_array_equal(decode_image(RGB, array_order="rgb"), expected)
    np.testing.assert_array_equal(decode_image(expected, array_order="bgr"), expected)
    np.testing.assert_array_equal(decode_image(data, order="rgb"), RGB)
    with pytest.raises(DataError, match="array_order"):
        decode_image(RGB)


def test_grey_palette_alpha_and_sixteen_bits():
    grey = RGB[:, :, 0]
    three = np.repeat(grey[:, :, None], 3, 2)
    np.testing.assert_array_equal(decode_image(png(Image.fromarray(grey))), three)
    np.testing.assert_array_equal(decode_image(grey), three)
    alpha = np.concatenate([RGB, np.full((9, 7, 1), 3, np.uint8)], 2)
    np.testing.assert_array_equal(decode_image(png(Image.fromarray(alpha)), order="rgb"), RGB)
    np.testing.assert_array_equal(decode_image(alpha, order="rgb", array_order="rgb"), RGB)
    both = np.stack([grey, np.full_like(grey, 5)], 2)
    np.testing.assert_array_equal(decode_image(png(Image.fromarray(both, "LA"))), three)
    deep = (grey.astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(decode_image(png(Image.fromarray(deep))), three)
    np.testing.assert_array_equal(decode_image(deep), three)
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(decode_image(png(palette), order="rgb"), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(((grey > 99) * 255).astype(np.uint8)).convert("1")
    assert set(np.unique(decode_image(png(bits)))) <= {0, 255}


def test_cmyk_jpeg_and_animation():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    data = png(cmyk, "JPEG", quality=100)
    assert decode_image(data).shape == (9, 7, 3)
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = png(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data, order="rgb")[0, 0], [255, 0, 0])


def test_exif_orientation_is_a_choice():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = png(Image.fromarray(RGB), "PNG", exif=exif)
    assert decode_image(data, exif="apply").shape == (7, 9, 3)
    np.testing.assert_array_equal(decode_image(data, exif="apply", order="rgb"), np.rot90(RGB, -1))
    np.testing.assert_array_equal(decode_image(data, exif="ignore", order="rgb"), RGB)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_one_pixel_sides(size):
    assert decode_image(png(Image.new("RGB", size))).shape == (size[1], size[0], 3)


def test_damaged_files_are_refused_in_one_line(tmp_path):
    jpeg = png(Image.fromarray(np.tile(RGB, (20, 20, 1))), "JPEG")
    cases = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpg": b"",
        "text.jpg": b"<html>not found</html>",
        "cut.png": png(Image.fromarray(RGB))[:60],
    }
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            decode_image(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    for path, word in ((tmp_path / "none.jpg", "no such image"), (tmp_path, "cannot be read")):
        with pytest.raises(DataError, match=word):
            decode_image(path)
    for array in (RGB.astype(np.float32), RGB[:, :, :2], RGB[None], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError):
            decode_image(array, array_order="rgb")


def test_random_damage_is_never_another_error():
    rng = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF"):
        data = bytearray(png(Image.fromarray(np.tile(RGB, (4, 4, 1))), form))
        for _ in range(60):
            broken = bytearray(data)
            for position in rng.integers(0, len(data), 4):
                broken[position] = rng.integers(256)
            try:
                decode_image(bytes(broken[: rng.integers(1, len(data) + 1)]))
            except DataError:
                pass
