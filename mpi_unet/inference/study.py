"""The unit of work: one study in, one mask with its measurements and one result out.

A result is a file, ``<output>/studies/<study>.json``, written after the mask. It holds the key of everything that
decides it: the networks, the options, the SOPInstanceUID (keyed) and the pixels of the study. The same work asked for
again finds the file and does nothing, on whatever machine and in whatever order; a study whose pixels have changed is
done anew. Nothing that is wrong with one study is an error of the others: it becomes the status of that study.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mpi_unet.cardiac.reorient import short_axis, short_axis_mask
from mpi_unet.cohort.domain import differences, image_facts, pixel_digest
from mpi_unet.cohort.nifti import Volume, write_image, write_mask
from mpi_unet.errors import MpiUnetError, RunError
from mpi_unet.files import read_json, sha256, write_json
from mpi_unet.inference.components import Kept, largest_part, plausible_parts
from mpi_unet.inference.inputs import Study
from mpi_unet.inference.hearts import Heart, heart_file, write_heart
from mpi_unet.inference.measures import Measures, measure_heart
from mpi_unet.inference.model import TrainedModel
from mpi_unet.inference.options import Options
from mpi_unet.inference.runtimes import Runner
from mpi_unet.inference.test_time import averaged
from mpi_unet.learning.transforms import prepared_case
from mpi_unet.shapes import Mask

__all__ = ["Prepared", "StudyResult", "finish_study", "predict_study", "prepare_study", "probabilities", "result_file"]

Answer = Float32[np.ndarray, "z y x"] | Exception
"""Probability of LV of one study, or why there is none."""

RESULT_VERSION = 2
"""Raised whenever the same study and options give another result; results of another version are made anew."""


@dataclass(frozen=True)
class StudyResult:
    """What became of one study.

    Attributes:
        study_id: Names its files.
        patient_id: Pseudonym.
        acquisition: Rest, stress or empty.
        gate: Of a gated study.
        source_uid: Keyed SOPInstanceUID; empty when the study comes from no DICOM object.
        status: ``segmented``, ``refused`` or ``failed``.
        reason: Why it is not segmented, in words.
        remarks: What to know about a segmented one, in words.
        seen_in_training: ``image``, ``patient`` or empty.
        folds: Folds whose networks spoke.
        other_domain: What sets it apart from training, where that was allowed.
        parts_removed: Parts of the mask that post-processing removed.
        voxels_removed: Their voxels.
        num_voxels: Of the mask.
        measures: What was measured.
        key: Of everything that decides this result.
    """

    study_id: str
    patient_id: str
    acquisition: str
    gate: str
    source_uid: str
    status: str
    reason: str = ""
    remarks: tuple[str, ...] = ()
    seen_in_training: str = ""
    folds: tuple[int, ...] = ()
    other_domain: tuple[str, ...] = ()
    parts_removed: int = 0
    voxels_removed: int = 0
    num_voxels: int = 0
    measures: Measures = field(default_factory=Measures)
    key: str = ""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> StudyResult:
        """From the content of its file."""
        values = _with_tuples(content)
        return cls(**(values | {"measures": Measures(**_with_tuples(content["measures"]))}))


@dataclass(frozen=True)
class Prepared:
    """A study that is ready for the network.

    Attributes:
        study: The study.
        volume: Its image as it is stored.
        image: After the deterministic transforms, float32 (1, z, y, x).
        networks: Positions of the networks that may speak about it.
        result: What is known of it so far.
    """

    study: Study
    volume: Volume
    image: Tensor
    networks: tuple[int, ...]
    result: StudyResult


def predict_study(study: Study, runner: Runner, output: str | Path, options: Options) -> StudyResult:
    """Segment and measure one study, or find that this has been done.

    Args:
        study: The study.
        runner: Runs the networks of a model.
        output: Folder of the predictions.
        options: How.

    Returns:
        What became of the study; a study that cannot be segmented has a status that says so.

    Raises:
        RunError: The output cannot be written to, or an exported network is not the one that was trained.
    """
    prepared = prepare_study(study, runner.model, output, options)
    if isinstance(prepared, StudyResult):
        return prepared
    [answer] = probabilities([prepared], runner, options)
    return finish_study(prepared, answer, runner.model, output, options)


def prepare_study(study: Study, model: TrainedModel, output: str | Path, options: Options) -> Prepared | StudyResult:
    """Read a study and make it ready; its result instead where that is known already."""
    blank = _blank(study)
    try:
        volume = study.case.read_image()
        pixels = pixel_digest(volume.array)
        key = sha256(
            str(RESULT_VERSION),
            model.key,
            options.key(),
            *(study.study_id, study.case.patient_id, study.case.acquisition, study.case.gate, study.source_uid),
            *(study.domain, study.label, str(study.spacing_known), str(study.is_placed), pixels),
            repr(np.round(volume.affine, 4).tolist()),
        )
        blank = replace(blank, key=key)
        done = _finished(result_file(output, study.study_id), key)
        if done is not None:
            return done
        spacing = volume.spacing_mm if study.spacing_known else None
        facts = image_facts(volume.array, spacing)
        found = differences(
            model.domain, facts, domain=study.domain, label=study.label, whole_volumes=model.spatial_dims == 3
        )
        if found and not (options.allow_other_domain and facts.is_finite):
            return _kept(replace(blank, status="refused", reason="; ".join(found)), output)
        image, _ = prepared_case(model.deterministic, volume.array, None, study.study_id)
    except RunError:
        raise
    except Exception as error:
        return _kept(failed(blank, error), output)
    seen, networks = model.training_of(pixels, study.case.patient_id, study.pseudonym_key, study.cohort)
    folds = tuple(model.folds[position] for position in networks)
    result = replace(blank, other_domain=tuple(found), seen_in_training=seen, folds=folds)
    return Prepared(study, volume, image, networks, result)


@torch.inference_mode()
def probabilities(group: Sequence[Prepared], runner: Runner, options: Options) -> list[Answer]:
    """Probability of LV of each study of a group; studies of one size go through the networks together.

    A group that fails is taken apart, so that only the study that cannot be segmented gets the exception.
    """
    together: dict[tuple[Any, ...], list[int]] = {}
    for position, one in enumerate(group):
        size = tuple(one.image.shape[4 - runner.model.spatial_dims :])
        together.setdefault((size, one.networks), []).append(position)
    answers: dict[int, Answer] = {}
    for positions in together.values():
        answers |= dict(
            zip(positions, _answers([group[position] for position in positions], runner, options), strict=True)
        )
    return [answers[position] for position in range(len(group))]


def finish_study(
    prepared: Prepared,
    answer: Answer,
    model: TrainedModel,
    output: str | Path,
    options: Options,
) -> StudyResult:
    """Turn probabilities into a mask, measure it, and write everything, the result last."""
    study, volume = prepared.study, prepared.volume
    if isinstance(answer, Exception):
        return _kept(failed(prepared.result, answer), output)
    try:
        is_volume = study.domain != "projection"
        kept = _cleaned(answer >= model.threshold, prepared, model, options)
        measures, heart = measure_heart(
            kept.mask,
            volume.array,
            volume.affine,
            volume.spacing_mm if study.spacing_known else None,
            domain=study.domain,
            label=model.domain.label,
            with_surfaces=options.measurements == "cardiac",
            is_placed=study.is_placed,
        )
        if options.probabilities:
            write_image(
                Path(output) / "probabilities" / f"{study.study_id}.nii.gz",
                answer,
                volume.affine,
                is_distance_z=is_volume,
            )
        write_mask(mask_file(output, study.study_id), kept.mask, volume.affine, is_distance_z=is_volume)
        if heart is None:
            _remove_heart(output, study.study_id)
        else:
            write_heart(heart_file(output, study.study_id), heart)
            if options.short_axis and study.domain == "transaxial":
                _write_short_axis(prepared, kept.mask, heart, output)
    except RunError:
        raise
    except Exception as error:
        return _kept(failed(prepared.result, error), output)
    return _kept(
        replace(
            prepared.result,
            status="segmented",
            remarks=kept.remarks if kept.mask.any() else ("nothing was found that looks like LV",),
            parts_removed=kept.num_removed,
            voxels_removed=kept.num_voxels_removed,
            num_voxels=int(np.count_nonzero(kept.mask)),
            measures=measures,
        ),
        output,
    )


def result_file(output: str | Path, study_id: str) -> Path:
    """The result of one study."""
    return Path(output) / "studies" / f"{study_id}.json"


def mask_file(output: str | Path, study_id: str) -> Path:
    """The mask of one study."""
    return Path(output) / "masks" / f"{study_id}.nii.gz"


def short_axis_files(output: str | Path, study_id: str) -> tuple[Path, Path]:
    """Image and mask of one transaxial study, turned to short-axis slices."""
    folder = Path(output) / "short_axis"
    return folder / f"{study_id}.nii.gz", folder / f"{study_id}_mask.nii.gz"


def failed(result: StudyResult, error: Exception) -> StudyResult:
    """The result of a study that something went wrong with; for an error that nobody foresaw, with the place."""
    if isinstance(error, MpiUnetError):
        return replace(result, status="failed", reason=" ".join(str(error).split()))
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(place[0].filename).name}, line {place[0].lineno})" if place else ""
    return replace(result, status="failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}{where}")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _blank(study: Study) -> StudyResult:
    case = study.case
    return StudyResult(study.study_id, case.patient_id, case.acquisition, case.gate, study.source_uid, status="")


def _finished(path: Path, key: str) -> StudyResult | None:
    """The result that lies there, if it is that of this very work; one that failed is tried again."""
    try:
        result = StudyResult.from_json(read_json(path))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return result if result.key == key and result.status != "failed" else None


def _kept(result: StudyResult, output: str | Path) -> StudyResult:
    """Write a result; a study that is not segmented has no mask, also none of an earlier time."""
    if result.status != "segmented":
        mask_file(output, result.study_id).unlink(missing_ok=True)
        _remove_heart(output, result.study_id)
    write_json(result_file(output, result.study_id), asdict(result))
    return result


def _remove_heart(output: str | Path, study_id: str) -> None:
    """Nothing that an earlier mask of the study gave stays beside a mask that does not give it."""
    for path in (heart_file(output, study_id), *short_axis_files(output, study_id)):
        path.unlink(missing_ok=True)


def _write_short_axis(prepared: Prepared, mask: Mask, heart: Heart, output: str | Path) -> None:
    """Image and mask along the axes of the heart, with the affine that says where they lie in the patient."""
    volume = prepared.volume
    image_file, turned_mask_file = short_axis_files(output, prepared.study.study_id)
    image, affine = short_axis(volume.array, volume.affine, heart.axes)
    turned, _ = short_axis_mask(mask, volume.affine, heart.axes)
    write_image(image_file, image, affine, is_distance_z=True)
    write_mask(turned_mask_file, turned, affine, is_distance_z=True)


def _answers(group: Sequence[Prepared], runner: Runner, options: Options) -> list[Answer]:
    """Answers about studies of one size: together, and where that fails, one by one."""
    try:
        return list(_forward(group, runner, options))
    except RunError:
        raise
    except Exception as error:
        if len(group) == 1:
            return [error]
    return [_answers([one], runner, options)[0] for one in group]


def _forward(group: Sequence[Prepared], runner: Runner, options: Options) -> list[Float32[np.ndarray, "z y x"]]:
    """Through the networks, as frames or as volumes, ``batch_size`` of them at once."""
    networks = group[0].networks
    if runner.model.spatial_dims == 2:
        stack = torch.cat([one.image[0] for one in group])[:, None]
    else:
        stack = torch.stack([one.image for one in group])

    def ask(batch: Tensor) -> Tensor:
        return runner(batch, networks)

    parts = [
        averaged(ask, part, shift_px=options.shift_px, scale=options.scale) for part in stack.split(options.batch_size)
    ]
    answer = torch.cat(parts).numpy()
    if runner.model.spatial_dims == 3:
        return list(answer)
    return np.split(answer, np.cumsum([one.image.shape[1] for one in group])[:-1])


def _cleaned(mask: Mask, prepared: Prepared, model: TrainedModel, options: Options) -> Kept:
    """The mask without what is no ventricle; places of training mean nothing in images of another domain."""
    if options.component == "none":
        return Kept(mask, 0, 0)
    is_projection = prepared.study.domain == "projection"
    frames: Sequence[np.ndarray] = list(mask) if is_projection else [mask]
    plausible = options.component == "plausible" and not prepared.result.other_domain
    steps = (prepared.volume.spacing_mm if model.domain.spacing_mm is not None else (1.0, 1.0, 1.0))[-frames[0].ndim :]
    kept = [
        plausible_parts(frame, steps, model.domain.outlines) if plausible else largest_part(frame) for frame in frames
    ]
    if not is_projection:
        return kept[0]
    odd = sum(bool(one.remarks) for one in kept)
    remark = f"{odd} of {len(kept)} views show an outline of a size or at a place that training did not have"
    return Kept(
        np.stack([one.mask for one in kept]),
        sum(one.num_removed for one in kept),
        sum(one.num_voxels_removed for one in kept),
        (remark,) if odd else (),
    )
