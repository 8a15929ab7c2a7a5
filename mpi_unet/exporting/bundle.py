"""A run as a MONAI Bundle: a folder that MONAI runs where this package is not installed, and that `predict` takes back.

The bundle is run once by MONAI before it comes to its place, on a test image, and its mask must be the one that
`predict` would give. What MONAI cannot say - which parts of a mask look like a ventricle - the bundle does not do.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mpi_unet import __version__
from mpi_unet.cohort.domain import write_domain
from mpi_unet.errors import ConfigError
from mpi_unet.evaluation.quality import write_quality
from mpi_unet.exporting.anonymous import anonymous_domain, anonymous_quality, anonymous_split, numbered
from mpi_unet.exporting.bundle_check import check_bundle
from mpi_unet.exporting.bundle_configs import BundlePlan, evaluation_config, inference_config
from mpi_unet.exporting.bundle_metadata import bundle_metadata
from mpi_unet.exporting.card import Section, model_card, write_card
from mpi_unet.exporting.facts import ModelFacts, model_facts
from mpi_unet.exporting.packages import check_packages
from mpi_unet.exporting.program import Graph, write_program
from mpi_unet.files import sha256, write_json, write_text
from mpi_unet.inference.model import TrainedModel, open_model
from mpi_unet.inference.stored import BUNDLE_VERSION, RECORD
from mpi_unet.sources.interchange import made_in_place

__all__ = ["write_bundle"]

POSTPROCESSING = {
    "none": (
        "Every voxel whose probability reaches the threshold is LV, wherever it lies.",
        "`predict` of mpi_unet has one step more by default: of a mask in several parts it keeps those that are of the "
        "size and at the place of ventricles of training (`postprocessing.component=plausible`). MONAI has no "
        "transform for that, so masks of this bundle may hold uptake of gut or liver that `predict` removes; they are "
        "those of `predict postprocessing.component=none`, voxel by voxel. `predict run=<this folder>` has the step.",
    ),
    "largest": (
        "Voxels whose probability reaches the threshold are LV; of several connected parts the largest is kept. Gut or "
        "liver may be larger than the ventricle.",
        "Masks are those of `predict postprocessing.component=largest`, voxel by voxel; by default `predict` of "
        "mpi_unet chooses parts by size and place instead, which MONAI has no transform for.",
    ),
}

NO_LICENSE = """No license was chosen for the weights and configurations in this folder when they were exported; without
one, all rights are with whoever trained them. The person who exports chooses one with
`python -m mpi_unet.export format=bundle license=<file>`.

Images of training: {cohort}; licence as their cohort states it: {licence}.
"""


def write_bundle(
    run: str | Path,
    output: str | Path,
    *,
    component: str = "none",
    license: str | Path | None = None,
    version: str = "1.0.0",
) -> Path:
    """Write a run as a MONAI Bundle.

    Args:
        run: The folder that ``train`` left behind.
        output: Folder to make.
        component: Which parts of a mask are kept: ``none`` (all of it) or ``largest``, which needs scikit-image where
            the bundle runs.
        license: Text file to become ``LICENSE``; None to say that none was chosen.
        version: Of the bundle.

    Returns:
        The folder.

    Raises:
        ConfigError: A package is missing, the license is no file, or the run uses what MONAI does not have.
        CohortError: ``output`` holds something that this did not write.
        RunError: It is no finished run, the disk is full, or MONAI answers otherwise than ``predict``.
    """
    check_packages("bundle")
    if license is not None and not Path(license).is_file():
        raise ConfigError(f"license={license} is no file; give a text file, for example license=LICENSE")
    facts = model_facts(run)
    model = open_model(run)
    files = [f"models/fold_{fold}.pt" for fold in model.folds]
    plan = BundlePlan(
        model=facts.stored.model,
        deterministic=facts.stored.deterministic,
        files=files,
        threshold=model.threshold,
        spatial_dims=model.spatial_dims,
        divisor=model.divisor,
        component=component,
        is_projection=model.domain.domain == "projection",
    )
    with made_in_place(output, "bundle") as part:
        write_json(part / "configs" / "inference.json", inference_config(plan))
        write_json(part / "configs" / "evaluation.json", evaluation_config(plan))
        write_json(part / "configs" / "metadata.json", bundle_metadata(facts, model, plan, version))
        digests = _write_weights(facts, part, files)
        _write_record(facts, model, part, digests)
        if license is not None:
            write_text(part / "LICENSE", Path(license).read_text(encoding="utf-8"))
        else:
            write_text(part / "LICENSE", NO_LICENSE.format(cohort=model.domain.cohort, licence=facts.licence))
        check_bundle(part, plan, model)
        graph = write_program(model, part / "models" / "model.pt2")
        digests["models/model.pt2"] = sha256(graph.file.read_bytes())
        card = model_card(facts, model, use=_use(plan, graph), postprocessing=POSTPROCESSING[component], files=digests)
        write_card(card, part / "docs" / "README.md", part / "docs" / "model_card.html")
    return Path(output)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _write_weights(facts: ModelFacts, part: Path, files: list[str]) -> dict[str, str]:
    """The state dictionary of each network, and ``model.pt``, where programs look that know a single network."""
    (part / "models").mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, weights in zip(
        [*files, "models/model.pt"], [*facts.stored.weights, facts.stored.weights[0]], strict=True
    ):
        torch.save(dict(weights.state), part / name)
        digests[name] = sha256((part / name).read_bytes())
    return digests


def _write_record(facts: ModelFacts, model: TrainedModel, part: Path, digests: dict[str, str]) -> None:
    """What `predict` needs beside what MONAI reads, without ids of patients and cases."""
    stored, record = facts.stored, part / RECORD
    quality = stored.quality
    ids = [*model.domain.images.values(), *(case.patient_id for case in quality.cases)] if quality else []
    patients = numbered(ids or model.domain.images.values(), "patient")
    if stored.split.unit == "patient":
        everyone = [unit for fold in stored.split.folds for unit in (*fold.train, *fold.val, *fold.test)]
        patients = numbered([*patients, *everyone], "patient")
    write_domain(record / "domain.json", anonymous_domain(model.domain, patients))
    anonymous_split(stored.split, patients).write(record / "splits.json")
    if quality is not None:
        write_quality(record / "quality.json", anonymous_quality(quality, patients))
    weights = [
        {"fold": fold, "file": f"models/fold_{fold}.pt", "sha256": digests[f"models/fold_{fold}.pt"]}
        for fold in model.folds
    ]
    content = {
        "schema_version": BUNDLE_VERSION,
        "mpi_unet": __version__,
        "name": stored.name,
        "threshold": stored.threshold,
        "model": dict(stored.model),
        "deterministic": dict(stored.deterministic),
        "weights": weights,
    }
    write_json(record / "model.json", content)  # last: its presence makes the folder a bundle of ours


def _use(plan: BundlePlan, graph: Graph) -> Section:
    package = " scikit-image" if plan.component == "largest" else ""
    return Section(
        "How it is used",
        (
            f"With MONAI alone (`pip install monai nibabel pytorch-ignite fire{package}`), in this folder. Every NIfTI "
            "file of a folder gets a mask of the same name.",
            "`models/fold_*.pt` are the state dictionaries of the networks (read with `weights_only=True`); "
            "`models/model.pt` is the first of them once more, for programs that know a single network. "
            "`models/model.pt2` is the mean of all networks as a program of torch.export, for prepared images whose "
            f"sides are {graph.sides}; {graph.compared}.",
        ),
        commands=(
            "python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES "
            "--output_dir MASKS",
            "python -m monai.bundle run --config_file \"['configs/inference.json','configs/evaluation.json']\" "
            "--bundle_root . --dataset_dir IMAGES --label_dir OUTLINES --output_dir SCORES",
            "",
            "# with mpi_unet, which also says what is unlike training, measures, and knows the images of training",
            "python -m mpi_unet.predict run=. input=COHORT output=RESULTS",
        ),
    )
