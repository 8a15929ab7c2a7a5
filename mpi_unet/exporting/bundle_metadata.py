"""``metadata.json`` of a bundle: the keys that MONAI asks for, and the data contract under keys of our own.

Source:
    MONAI Bundle Specification, and its JSON schema of 25 July 2024, which `SCHEMA` names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mpi_unet import __version__
from mpi_unet.exporting.bundle_configs import BundlePlan
from mpi_unet.exporting.facts import NOT_STATED, ModelFacts
from mpi_unet.inference.model import TrainedModel
from mpi_unet.report.limits import limits
from mpi_unet.report.wording import DOMAIN_WORDS, LABEL_WORDS

__all__ = ["SCHEMA", "bundle_metadata", "intended_use"]

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"

NEEDED = ("nibabel", "pytorch-ignite")
"""Packages that a bundle needs beside MONAI, torch and numpy."""

SCORES = ("dice", "iou", "precision", "recall", "nsd", "hd95_mm", "assd_mm", "volume_difference_ml")
"""Scores that the metadata repeat; the card has them all."""


def bundle_metadata(facts: ModelFacts, model: TrainedModel, plan: BundlePlan, version: str) -> dict[str, Any]:
    """Content of ``metadata.json``.

    Args:
        facts: What the run says.
        model: The networks.
        plan: What the bundle does.
        version: Of the bundle.
    """
    what, images = words_of(model)
    number = len(model.networks)
    networks = f"{number} networks, one a fold of the cross-validation, averaged" if number > 1 else "one network"
    return {
        "schema": SCHEMA,
        "version": version,
        "changelog": {version: f"exported from the run {model.name} by mpi_unet {__version__}"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {name: metadata.version(name) for name in _needed(plan)},
        "name": model.name,
        "task": f"Segmentation of {what} in SPECT myocardial perfusion images",
        "description": (
            f"Outlines {what} in {images}; {networks}. Trained on {model.domain.num_cases} cases of "
            f"{model.domain.num_patients} patients ({model.domain.cohort}). docs/README.md is the model card."
        ),
        "authors": f"whoever made the run {model.name} with mpi_unet {__version__}",
        "copyright": "see LICENSE",
        "data_source": f"{model.domain.cohort}; {facts.source}; licence: {facts.licence}",
        "data_type": "nibabel",
        "image_classes": f"one channel: {images}",
        "label_classes": f"0 is background, 1 is {what}",
        "pred_classes": f"two channels, background and {what}; after post-processing a mask, 1 inside",
        "intended_use": intended_use(facts),
        "eval_metrics": _scores(facts.summary),
        "limits": limits(facts.summary),
        "data_contract": _contract(facts, model, plan),
        "network_data_format": {
            "inputs": {"image": _tensor(model, "magnitude", 1, {"0": "image"}) | {"modality": "NM"}},
            "outputs": {"pred": _tensor(model, "labels", 2, {"0": "background", "1": model.domain.label})},
        },
    }


def intended_use(facts: ModelFacts) -> str:
    """What the model may be used for."""
    simulated = (
        " It has learnt from simulated images only: nothing is known about how it does on images of patients."
        if facts.is_simulated
        else ""
    )
    return (
        "Research. Not a medical device, not for diagnosis or treatment: every outline has to be looked at by somebody "
        f"who can judge it.{simulated}"
    )


def words_of(model: TrainedModel) -> tuple[str, str]:
    """What is outlined, and in what images, in words."""
    label, domain = model.domain.label, model.domain.domain
    return LABEL_WORDS.get(label, label), DOMAIN_WORDS.get(domain, domain)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _needed(plan: BundlePlan) -> list[str]:
    return [*NEEDED, *(["scikit-image"] if plan.component == "largest" else [])]


def _scores(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Out-of-fold scores of single networks with their intervals; the ensemble itself has seen every case."""
    found = {}
    for name in SCORES:
        metric = (summary.get("metrics") or {}).get(name)
        if metric:
            found[name] = {
                "mean": _plain(metric.get("mean")),
                "ci95": metric.get("ci95"),
                "ci_method": metric.get("ci_method"),
                "unit": metric.get("unit", ""),
                "n_patients": metric.get("n"),
                "of": "single networks on patients that they had not seen (out of fold); not of the ensemble",
            }
    return found


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _contract(facts: ModelFacts, model: TrainedModel, plan: BundlePlan) -> dict[str, Any]:
    known = model.domain
    return {
        "modality": "NM (SPECT)",
        "domain": known.domain,
        "label": known.label,
        "label_meaning": LABEL_WORDS.get(known.label, known.label),
        "axes": "files (x, y, z); networks (z, y, x)",
        "spacing_mm_zyx": known.spacing_mm,
        "shape_zyx": known.shape,
        "sum_of_values": known.total,
        "noise": known.noise,
        "intensities": facts.intensities,
        "intensity_treatment": {name: dict(given) for name, given in plan.deterministic.items() if given},
        "cameras": known.cameras or NOT_STATED,
        "num_cases": known.num_cases,
        "num_patients": known.num_patients,
        "reader": facts.design.get("reader"),
        "simulated": facts.is_simulated,
        "training_licence": facts.licence,
        "threshold": plan.threshold,
        "num_networks": len(plan.files),
        "postprocessing": plan.component,
        "sides_multiple_of": plan.divisor,
    }


def _tensor(model: TrainedModel, kind: str, num_channels: int, channels: Mapping[str, str]) -> dict[str, Any]:
    """The format of what a network gets or gives: a frame, or a volume."""
    return {
        "type": "image",
        "format": kind,
        "num_channels": num_channels,
        "spatial_shape": [f"{model.divisor}*n + {model.divisor}"] * model.spatial_dims,  # of one pixel no norm is taken
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": dict(channels),
    }
