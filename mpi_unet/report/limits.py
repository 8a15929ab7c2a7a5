"""What a run does not allow to conclude: one rule, one sentence.

Each rule looks at ``summary.json`` alone (with what ``fold.json`` adds to its folds) and either returns a sentence or
nothing. The order is the order of the page: what invalidates the figures first, what merely narrows them last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpi_unet.report.wording import LABEL_WORDS, number

MIN_PATIENTS = 30
"""Below this an interval is wide, and no claim is made whatever it says."""

MIN_TRAINING_PATIENTS = 3
"""With fewer, a network learns persons rather than hearts."""

Summary = Mapping[str, Any]


def limits(summary: Summary) -> list[str]:
    """Say what the figures of a run do not show.

    Args:
        summary: Content of ``summary.json``; folds may carry ``num_train_patients`` from ``fold.json``.

    Returns:
        Sentences, the gravest first; never empty, since no single run answers everything.
    """
    return [sentence for rule in RULES if (sentence := rule(summary))]


def leakage(summary: Summary) -> str | None:
    """Patients on both sides of the split."""
    design = _design(summary)
    if not design.get("leakage_allowed"):
        return None
    found = f" The audit before training found {design['leaks_found']} leaks." if design.get("leaks_found") else ""
    return (
        "Images of the same patients were used for training and for scoring. The figures describe frames of known "
        f"patients and say nothing about patients whom the network has not seen.{found}"
    )


def incomplete(summary: Summary) -> str | None:
    """Folds still to come."""
    if summary.get("complete", True):
        return None
    return "The run is not complete: the figures cover only the folds that are done and will change."


def simulated(summary: Summary) -> str | None:
    """Phantom data."""
    if not _design(summary).get("simulated_readers"):
        return None
    return "Images and readers are simulated. The figures describe a phantom and say nothing about patients."


def one_reader(summary: Summary) -> str | None:
    """No second reader, so no yardstick."""
    if "agreement" in summary:
        return None
    simulated_reader = _design(summary).get("simulated_readers")
    who = "one outline per case, made by a program" if simulated_reader else "one reader"
    return (
        f"The network was compared with {who}. Agreement between experts was not measured, so nothing can be said "
        "about how the network compares with an expert."
    )


def few_patients(summary: Summary) -> str | None:
    """A small study."""
    patients = _design(summary).get("n_patients")
    if patients is None or patients >= MIN_PATIENTS:
        return None
    return (
        f"The study has {patients} patient{'' if patients == 1 else 's'} (fewer than {MIN_PATIENTS}): the confidence "
        "intervals are wide, and rare failures may not have occurred yet."
    )


def few_training_patients(summary: Summary) -> str | None:
    """Folds trained on almost nobody."""
    known = [
        fold["num_train_patients"] for fold in summary.get("folds") or [] if fold.get("num_train_patients") is not None
    ]
    if not known or min(known) >= MIN_TRAINING_PATIENTS:
        return None
    return (
        f"At least one network was trained on {min(known)} patient{'' if min(known) == 1 else 's'} only (fewer than "
        f"{MIN_TRAINING_PATIENTS}); its results describe these persons more than the method."
    )


def one_division(summary: Summary) -> str | None:
    """Holdout."""
    if _design(summary).get("split") != "holdout":
        return None
    return (
        "Patients were divided once (holdout): another division would give other figures, and how much they would "
        "move was not measured."
    )


def dependent_folds(summary: Summary) -> str | None:
    """Cross-validation: folds share training patients."""
    if _design(summary).get("split") != "kfold" or len(summary.get("folds") or []) < 2:
        return None
    return (
        "The networks of the folds share most of their training patients, so the fold means are not independent and "
        "their spread is no confidence interval. The intervals on this page are over patients."
    )


def below_baseline(summary: Summary) -> str | None:
    """A trivial rule reaches the network."""
    dice = _mean(summary, "dice")
    if dice is None:
        return None
    rivals = []
    for name, baseline in (summary.get("baselines") or {}).items():
        rival = _mean(baseline, "dice")
        if rival is not None and rival >= dice:
            rivals.append(f"{baseline.get('label') or name} ({number(rival)})")
    if not rivals:
        return None
    return (
        f"A rule without any learning reaches the Dice of the network ({number(dice)}) or exceeds it: "
        f"{', '.join(rivals)}. The run does not show that the network has learned anything from the images."
    )


def left_out(summary: Summary) -> str | None:
    """Undefined and infinite values of any metric."""
    parts = []
    for name, metric in (summary.get("metrics") or {}).items():
        counts = [(metric.get("n_undefined") or 0, "undefined"), (metric.get("n_infinite") or 0, "infinite")]
        words = [f"{n} {word}" for n, word in counts if n]
        if words:
            parts.append(f"{metric.get('label') or name}: {' and '.join(words)}")
    if not parts:
        return None
    return (
        f"Some values could not be computed ({'; '.join(parts)}). The means alone do not tell about these patients; "
        "the results table counts them."
    )


def scale_dependence(summary: Summary) -> str | None:
    """Dice depends on pixel and label."""
    design = _design(summary)
    what = LABEL_WORDS.get(str(design.get("label")), "this structure")
    spacing = design.get("spacing_mm")
    pixel = f"pixels of {number(spacing[-1], 'mm')} mm" if spacing else "the pixels of this cohort"
    return (
        f"Dice and IoU depend on what is outlined and on the size of the pixels; these are for {what} at {pixel}. "
        "They are not comparable with figures for another outline or another pixel size: one pixel of difference "
        "costs more where the structure is thin or the pixels are large."
    )


def unknown_spacing(summary: Summary) -> str | None:
    """No distances."""
    in_mm = any(metric.get("unit") in ("mm", "ml") for metric in (summary.get("metrics") or {}).values())
    if in_mm or _design(summary).get("spacing_mm"):
        return None
    return (
        "The size of a pixel is not known for this cohort, so there are no distances in mm and no volumes in ml, and "
        "whether a difference matters clinically cannot be judged."
    )


def projections_only(summary: Summary) -> str | None:
    """Views, not volumes."""
    if _design(summary).get("domain") != "projection":
        return None
    return (
        "The outlines were drawn and scored on projections. Volumes, wall motion and perfusion of the left ventricle "
        "cannot be read from them."
    )


def one_training(summary: Summary) -> str | None:
    """One seed, one cohort."""
    return (
        "All patients come from one cohort and each network was trained once. How the figures would move with another "
        "hospital, camera or random seed was not measured."
    )


RULES: tuple[Callable[[Summary], str | None], ...] = (
    leakage,
    incomplete,
    simulated,
    one_reader,
    below_baseline,
    few_patients,
    few_training_patients,
    one_division,
    dependent_folds,
    left_out,
    unknown_spacing,
    scale_dependence,
    projections_only,
    one_training,
)


def _design(summary: Summary) -> Mapping[str, Any]:
    return summary.get("design") or {}


def _mean(summary: Summary, metric: str) -> float | None:
    mean = ((summary.get("metrics") or {}).get(metric) or {}).get("mean")
    return None if mean is None else float(mean)
