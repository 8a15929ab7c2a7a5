"""Reading TIFF and PNG; the files are written by Pillow and tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from pairs_builders import frame, mask
from PIL import Image

from mpi_unet.errors import CohortError
from mpi_unet.sources.raster import read_raster


@pytest.mark.parametrize("compression", [None, "raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_of_every_kind(tmp_path: Path, compression: str | None, dtype: type):
    array = frame(3, dtype=dtype)
    Image.fromarray(array).save(tmp_path / "a.tif", compression=compression)
    read = read_raster(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array[None])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_stack_of_pages(tmp_path: Path, compression: str):
    pages = [Image.fromarray(frame(seed)) for seed in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif"), np.stack([frame(seed) for seed in range(3)]))


def test_imagej_stack_with_one_directory(tmp_path: Path):
    stack = np.stack([frame(seed, dtype=np.uint16) for seed in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif"), stack)


def test_bits_are_zero_and_one(tmp_path: Path):
    Image.fromarray(mask(1)).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png"), mask(1)[None] > 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_gray_stored_as_color(tmp_path: Path, mode: str):
    Image.fromarray(frame(1)).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png"), frame(1)[None])


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_gray_stored_as_color_in_tiff(tmp_path: Path, planarconfig: str):
    color = np.repeat(frame(1)[..., None], 3, axis=-1)
    if planarconfig == "separate":
        color = np.moveaxis(color, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", color, photometric="rgb", planarconfig=planarconfig)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif"), frame(1)[None])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_color_is_refused(tmp_path: Path, name: str):
    Image.fromarray(np.stack([frame(1), frame(2), frame(3)], axis=-1)).save(tmp_path / name)
    with pytest.raises(CohortError, match="is a color image whose channels differ"):
        read_raster(tmp_path / name)


def test_inverted_tiff_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", mask(1), photometric="miniswhite")
    with pytest.raises(CohortError, match=r"stores white as zero .* export it again with black as zero"):
        read_raster(tmp_path / "a.tif")


def test_pages_of_different_sizes_are_refused(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(frame(1))
        file.write(frame(1, size=20))
    with pytest.raises(CohortError, match="holds 2 images of different sizes"):
        read_raster(tmp_path / "a.tif")


def test_complex_pixels_are_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", frame(1).astype(np.complex64))
    with pytest.raises(CohortError, match="holds complex64 of shape 1x16x16; expected a gray image"):
        read_raster(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("content", [b"", b"not an image", b"II*\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n"], ids=range(4))
def test_broken_files(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CohortError, match=r"cannot be read \(.+\); expected a TIFF or PNG image"):
        read_raster(tmp_path / name)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mpi_unet.sources.raster.MAX_BYTES", 1000)
    for name, said in (("a.tif", "10000 pixels"), ("a.png", "100x100 pixels")):
        Image.fromarray(frame(1, size=100)).save(tmp_path / name)
        with pytest.raises(CohortError, match=f"unpacks to {said}; expected a SPECT image"):
            read_raster(tmp_path / name)


def test_compressed_pages_of_different_sizes_are_refused(tmp_path: Path):
    pages = [Image.fromarray(frame(1, size=size)) for size in (16, 20)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    with pytest.raises(CohortError, match="holds 2 images of different sizes"):
        read_raster(tmp_path / "a.tif")
