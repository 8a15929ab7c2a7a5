"""The unit of work: one study in, one mask with its measurements and one result out.

A result is a file, ``<output>/studies/<study>.json``, written after the mask. It holds the key of everything that
decides it: the networks, the options, the SOPInstanceUID (keyed) and the pixels of the study. The same work asked for
again finds the file and does nothing, on whatever machine and in whatever order; a study whose pixels have changed is
done anew. Nothing that is wrong with one study is an error of the others: it becomes the status of that study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mpi_unet.cohort.differences import differences
from mpi_unet.cohort.domain import image_facts, pixel_digest
from mpi_unet.errors import RunError
from mpi_unet.files import sha256
from mpi_unet.inference.finishing import Answer, ReadStudy, finish_study
from mpi_unet.inference.inputs import Study
from mpi_unet.inference.model import TrainedModel
from mpi_unet.inference.options import Options
from mpi_unet.inference.results import RESULT_VERSION, StudyResult, blank_result, failed, finished_result, keep_result
from mpi_unet.inference.runtimes import Runner
from mpi_unet.inference.test_time import averaged
from mpi_unet.learning.transforms import prepared_case

__all__ = ["Prepared", "predict_study", "prepare_study", "probabilities"]

MOVES_HEARTS = ("domain", "geometry")
"""Kinds of differences after which ventricles lie elsewhere than those of training; few counts move none."""


@dataclass(frozen=True)
class Prepared:
    """A study that is ready for the network.

    Attributes:
        read: The study with its image.
        image: After the deterministic transforms, float32 (1, z, y, x).
        networks: Positions of the networks that may speak about it.
    """

    read: ReadStudy
    image: Tensor
    networks: tuple[int, ...]


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
    return finish_study(prepared.read, answer, runner.model.learnt, output, options)


def prepare_study(study: Study, model: TrainedModel, output: str | Path, options: Options) -> Prepared | StudyResult:
    """Read a study and make it ready; its result instead where that is known already."""
    case = study.case
    known = (
        *(str(RESULT_VERSION), model.key, options.key(), study.study_id, case.patient_id, case.acquisition, case.gate),
        *(study.source_uid, study.domain, study.label, str(study.spacing_known), str(study.is_placed)),
        *(study.cohort, study.pseudonym_key, model.quality.key if model.quality else ""),
    )
    blank = replace(blank_result(study), file_key=_file_key(case.image, known))
    try:
        done = finished_result(output, study.study_id, file_key=blank.file_key)
        if done is not None and blank.file_key:
            return done
        volume = case.read_image()
        pixels = pixel_digest(volume.array)
        blank = replace(blank, key=sha256(*known, pixels, repr(np.round(volume.affine, 4).tolist())))
        done = finished_result(output, study.study_id, key=blank.key)
        if done is not None:
            return keep_result(replace(done, file_key=blank.file_key), output)
        spacing = volume.spacing_mm if study.spacing_known else None
        facts = image_facts(volume.array, spacing)
        found = differences(
            model.domain, facts, domain=study.domain, label=study.label, whole_volumes=model.spatial_dims == 3
        )
        if not all(map(options.allows, found)):
            return keep_result(replace(blank, status="refused", reason="; ".join(one.text for one in found)), output)
        image, _ = prepared_case(model.deterministic, volume.array, None, study.study_id)
    except RunError:
        raise
    except Exception as error:
        return keep_result(failed(blank, error), output)
    seen, networks = model.training_of(pixels, study.case.patient_id, study.pseudonym_key, study.cohort)
    folds = tuple(model.folds[position] for position in networks)
    result = replace(blank, other_domain=tuple(one.text for one in found), seen_in_training=seen, folds=folds)
    is_placed_alike = not any(one.kind in MOVES_HEARTS for one in found)
    return Prepared(ReadStudy(study, volume, result, is_placed_alike, facts), image, networks)


@torch.inference_mode()
def probabilities(group: Sequence[Prepared], runner: Runner, options: Options) -> list[Answer]:
    """Probabilities of LV of each study of a group, network by network.

    Studies of one size go through the networks together. A group that fails is taken apart, so that only the study that
    cannot be segmented gets the exception.
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


# --- Private helpers --------------------------------------------------------------------------------------------------


def _file_key(image: Path, known: Sequence[str]) -> str:
    """Of all that decides a result, with the bytes of the image's file; empty where they cannot be read.

    Not of size and time of the file: copies keep these, and then a stale result would be taken for the new one.
    """
    try:
        return sha256(*known, image.read_bytes())
    except OSError:
        return ""


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


def _forward(group: Sequence[Prepared], runner: Runner, options: Options) -> list[Float32[np.ndarray, "network z y x"]]:
    """Through each network, as frames or as volumes, ``batch_size`` of them at once."""
    networks = group[0].networks
    if runner.model.spatial_dims == 2:
        stack = torch.cat([one.image[0] for one in group])[:, None]
    else:
        stack = torch.stack([one.image for one in group])

    def spoken(network: int, part: Tensor) -> Tensor:
        def ask(batch: Tensor) -> Tensor:
            return runner(batch, (network,))

        return averaged(ask, part, shift_px=options.shift_px, scale=options.scale)

    parts = stack.split(options.batch_size)
    answer = torch.stack([torch.cat([spoken(network, part) for part in parts]) for network in networks]).numpy()
    if runner.model.spatial_dims == 3:
        return list(answer.swapaxes(0, 1))
    return np.split(answer, np.cumsum([one.image.shape[1] for one in group])[:-1], axis=1)
