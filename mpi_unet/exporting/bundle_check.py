"""The bundle is run once by MONAI, and must say what `predict` says.

The image is made up: blurred noise, with sides that are no multiple of the total stride where the network allows it.
Its masks are compared at a threshold about the median of its own probabilities, where half of the voxels are inside:
at the threshold of the model noise would hardly have an outline to compare.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import ndimage

from mpi_unet.cohort.nifti import affine_from_spacing, read_mask, write_image
from mpi_unet.errors import RunError
from mpi_unet.evaluation.components import largest_part
from mpi_unet.exporting.bundle_configs import BundlePlan
from mpi_unet.files import read_json
from mpi_unet.inference.model import TrainedModel
from mpi_unet.inference.runtimes import Runner
from mpi_unet.learning.transforms import prepared_case
from mpi_unet.shapes import Image

__all__ = ["check_bundle", "mean_probability"]

NUM_FRAMES = 5


def check_bundle(bundle: Path, plan: BundlePlan, model: TrainedModel) -> None:
    """Run a bundle on a test image.

    Raises:
        RunError: Its mask is not the one of ``predict``.
    """
    image = _test_image(model)
    probability = mean_probability(model, image)
    threshold = _widest_gap(probability)
    wanted = probability >= np.float32(threshold)
    if plan.component == "largest":
        wanted = largest_part(wanted).mask
    with TemporaryDirectory() as folder:
        write_image(Path(folder) / "images" / "test.nii.gz", image, affine_from_spacing((4.0, 3.0, 2.0)))
        found = _run(bundle, Path(folder), threshold)
    if found.shape != wanted.shape or (found != wanted).any():
        differing = int(np.count_nonzero(found != wanted)) if found.shape == wanted.shape else image.size
        raise RunError(
            f"MONAI gives another mask than predict for a test image: {differing} of {image.size} voxels differ, "
            "expected none; the transforms or the network of this run do something that a bundle cannot say. Train "
            "with those of conf/, or report it with the config of the run"
        )


def mean_probability(model: TrainedModel, image: Image) -> Image:
    """Mean probability over all networks, as ``predict`` has it for a study that training did not know."""
    prepared, _ = prepared_case(model.deterministic, image, None, "test")
    runner = Runner(model, device="cpu")
    batch = prepared[None] if model.spatial_dims == 3 else prepared[0][:, None]
    answers = [runner(batch, (position,)).numpy() for position in range(len(model.networks))]
    mean: Image = np.mean(answers, axis=0)
    return mean[0] if model.spatial_dims == 3 else mean


# --- Private helpers --------------------------------------------------------------------------------------------------


def _widest_gap(probability: Image) -> float:
    """The middle of the widest gap between probabilities about their median: rounding moves no voxel across it."""
    ordered = np.sort(probability.ravel().astype(np.float64))
    middle = ordered[int(0.4 * ordered.size) : int(0.6 * ordered.size) + 1]
    at = int(np.argmax(np.diff(middle)))
    return float(middle[at : at + 2].mean())


def _test_image(model: TrainedModel) -> Image:
    side = 2 * model.divisor
    shape = (side - 1 if model.spatial_dims == 3 else NUM_FRAMES, side - 1, side - 3 if side > 4 else side)
    noise = np.random.default_rng(0).normal(size=shape)
    blurred = ndimage.gaussian_filter(noise, (0.5, 2, 2))
    return (100 + 50 * blurred / np.abs(blurred).max()).astype(np.float32)


def _run(bundle: Path, folder: Path, threshold: float) -> np.ndarray:
    """What MONAI makes of the files in ``images``: the mask of the only one."""
    from monai.bundle import ConfigParser
    from monai.data import get_track_meta, set_track_meta

    parser = ConfigParser(read_json(bundle / "configs" / "inference.json"))
    parser.update(
        {
            "bundle_root": bundle.as_posix(),
            "dataset_dir": (folder / "images").as_posix(),
            "output_dir": (folder / "masks").as_posix(),
            "device": "$torch.device('cpu')",
            "threshold": threshold,
        }
    )
    before = get_track_meta()
    set_track_meta(True)  # places of files travel with their arrays; training has switched that off
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of readers of other formats that MONAI does not find installed
            parser.get_parsed_content("run", instantiate=True, eval_expr=True)
    finally:
        set_track_meta(before)
    return read_mask(folder / "masks" / "test.nii.gz")
