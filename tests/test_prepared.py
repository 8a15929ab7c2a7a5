"""Cases after the deterministic transforms: kept on disk, never stale, whole or not at all, small in memory."""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cohort_builders import write_tiny_cohort
from monai.transforms import Lambdad, ScaleIntensityd

from mpi_unet.cohort.nifti import write_image, write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import RunError
from mpi_unet.learning import prepared
from mpi_unet.learning.prepared import PreparedCases, prepare_cases
from mpi_unet.learning.transforms import composed

RECIPE = {"scale": {"_target_": "monai.transforms.ScaleIntensityd", "keys": ["image"]}}


def made(cohort: Cohort, cache: Path | None, *, spatial_dims: int = 2, recipe=None, factor: float = 1.0):
    deterministic = composed({"scale": ScaleIntensityd(keys=["image"], maxv=factor)})
    return prepare_cases(
        cohort,
        "truth",
        deterministic,
        recipe=recipe or RECIPE,
        fingerprint=cohort.fingerprint("truth"),
        spatial_dims=spatial_dims,
        cache=cache,
    )


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


@pytest.fixture
def uneven_cohort(tmp_path: Path) -> Cohort:
    """Six cases, the second of which is smaller along every axis."""
    cohort = Cohort.open(write_tiny_cohort(tmp_path / "uneven", readers=("truth",)))
    case = cohort.cases[1]
    volume, mask = case.read_image(), case.read_mask("truth")
    write_image(case.image, np.ascontiguousarray(volume.array[1:, 2:-3, 4:]), volume.affine)
    write_mask(case.labels["truth"], np.ascontiguousarray(mask[1:, 2:-3, 4:]), volume.affine)
    return cohort


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("on_disk", [True, False])
def test_every_case_is_what_its_transforms_make_of_it(uneven_cohort, tmp_path, on_disk, spatial_dims):
    cases = made(uneven_cohort, tmp_path / "cache" if on_disk else None, spatial_dims=spatial_dims)
    assert len(cases) == len(uneven_cohort.cases)
    for case, source in zip(cases, uneven_cohort.cases, strict=True):
        image = source.read_image().array
        scaled = (image - image.min()) / (image.max() - image.min())
        assert (case.case_id, case.patient_id) == (source.case_id, source.patient_id)
        np.testing.assert_allclose(case.image[0], scaled, atol=1e-6)
        assert torch.equal(case.label[0].bool(), torch.from_numpy(source.read_mask("truth")))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_rows_are_padded_evenly_with_their_smallest_value(uneven_cohort, spatial_dims):
    cases = made(uneven_cohort, None, spatial_dims=spatial_dims)
    image, label = cases.batch(torch.tensor([cases.row(1, 0)]), torch.device("cpu"))
    own = cases[1]
    first = own.image[0, 0] if spatial_dims == 2 else own.image[0]
    assert image.shape[2:] == cases[0].image.shape[4 - spatial_dims :]
    around = [(whole - length) // 2 for whole, length in zip(image.shape[2:], first.shape, strict=True)]
    inside = tuple(slice(at, at + length) for at, length in zip(around, first.shape, strict=True))
    assert torch.equal(image[0, 0][inside], first)
    outside = torch.ones(image.shape[2:], dtype=torch.bool)
    outside[inside] = False
    assert (image[0, 0][outside] == first.min()).all()
    assert not label[0, 0][outside].any()


def test_memory_and_disk_give_the_same(uneven_cohort, tmp_path):
    kept, held = made(uneven_cohort, tmp_path / "cache"), made(uneven_cohort, None)
    gathered = PreparedCases.of(list(kept), 2)
    for other in (held, gathered):
        assert torch.equal(kept.images, other.images)
        assert torch.equal(kept.labels, other.labels)


# --- made once, never stale ---


def test_it_is_made_once(tiny_cohort, tmp_path, monkeypatch):
    first = made(tiny_cohort, tmp_path)
    monkeypatch.setattr(prepared, "prepared_case", lambda *_: pytest.fail("made again"))
    assert torch.equal(made(tiny_cohort, tmp_path).images, first.images)


def test_another_recipe_cohort_or_dimension_is_another_folder(tiny_cohort, tmp_path):
    cache = tmp_path / "cache"
    made(tiny_cohort, cache)
    other_recipe = {"scale": RECIPE["scale"] | {"maxv": 2.0}}
    assert float(made(tiny_cohort, cache, recipe=other_recipe, factor=2.0).images.max()) == pytest.approx(2.0)
    made(tiny_cohort, cache, spatial_dims=3)
    assert len(folders(cache)) == 3
    case = tiny_cohort.cases[0]
    volume = case.read_image()
    write_image(case.image, volume.array[:, ::-1].copy(), volume.affine)
    changed = made(tiny_cohort, cache)
    assert len(folders(cache)) == 4
    assert torch.equal(changed.images, made(tiny_cohort, None).images)


def test_code_of_a_transform_of_ones_own_names_the_folder(tiny_cohort, tmp_path, monkeypatch):
    module = tmp_path / "my_transforms.py"
    monkeypatch.syspath_prepend(tmp_path)
    recipe = {"mine": {"_target_": "my_transforms.Mine", "keys": ["image"]}}
    module.write_text("class Mine:\n    pass\n")
    made(tiny_cohort, tmp_path / "cache", recipe=recipe)
    module.write_text("class Mine:\n    changed = True\n")
    made(tiny_cohort, tmp_path / "cache", recipe=recipe)
    assert len(folders(tmp_path / "cache")) == 2


@pytest.mark.parametrize("name", ["images.f32", "labels.u8", "key.json"])
def test_folder_that_lost_something_is_made_again(tiny_cohort, tmp_path, name):
    expected = made(tiny_cohort, tmp_path).images.clone()
    file = next(tmp_path.glob(f"*/{name}"))
    file.write_bytes(file.read_bytes()[:-3])
    assert torch.equal(made(tiny_cohort, tmp_path).images, expected)
    shutil.rmtree(file.parent)
    assert torch.equal(made(tiny_cohort, tmp_path).images, expected)


def test_transform_that_fails_leaves_nothing_behind(tiny_cohort, tmp_path):
    def fail(image):
        raise RuntimeError("in the middle")

    broken = composed({"broken": Lambdad(keys=["image"], func=fail)})
    with pytest.raises(RuntimeError):
        prepare_cases(
            tiny_cohort, "truth", broken, recipe=RECIPE, fingerprint="other", spatial_dims=2, cache=tmp_path / "cache"
        )
    assert not folders(tmp_path / "cache")


def test_place_that_cannot_be_written_to_says_what_to_do(tiny_cohort, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written: .*choose another loader.cache.*loader.cache=null"):
        made(tiny_cohort, tmp_path / "file" / "cache")


def in_another_process(root: str, cache: str) -> float:
    return float(made(Cohort.open(root), Path(cache)).images.sum())


def test_processes_that_come_at_once_make_it_once(tiny_root, tmp_path):
    cache = tmp_path / "cache"
    with multiprocessing.get_context("fork").Pool(3) as pool:
        sums = pool.starmap(in_another_process, [(str(tiny_root), str(cache))] * 3)
    assert len(set(sums)) == 1
    assert len(folders(cache)) == 1


# --- small in memory ---


def test_pages_of_the_files_are_given_back(tiny_cohort, tmp_path, monkeypatch):
    cases = made(tiny_cohort, tmp_path)
    expected = cases.images.clone()
    given_back = []

    class Map:
        def madvise(self, advice):
            given_back.append(advice)

    cases._maps = (*cases._maps, Map())
    monkeypatch.setattr(prepared, "RELEASE_AFTER_BYTES", cases.images[0].nbytes * 3)
    rows = torch.arange(2)
    for _ in range(4):
        image, _ = cases.batch(rows, torch.device("cpu"))
        assert torch.equal(image[:, 0], expected[:2])
    assert given_back == [mmap.MADV_DONTNEED] * 2
    assert torch.equal(cases.images, expected)


def test_what_is_changed_in_memory_never_reaches_the_files(tiny_cohort, tmp_path):
    cases = made(tiny_cohort, tmp_path)
    expected = cases.images.clone()
    cases.images.zero_()
    assert torch.equal(made(tiny_cohort, tmp_path).images, expected)
