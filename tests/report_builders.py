"""Builders of finished runs and a reader of pages, for the tests of the report."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.cohort.nifti import affine_from_spacing, write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.report.wording import forbidden_words

NUM_FOLDS = 3
HISTORY_FILES = tuple(f"fold_{fold}/{name}" for fold in range(NUM_FOLDS) for name in ("metrics.csv", "operating.csv"))
SPACING_MM = (6.4, 3.2, 3.2)
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "<script>alert(1)</script>&\"'$x$"


def heart(seed: int, shape: tuple[int, int, int] = (14, 40, 40), growth: float = 0.0) -> np.ndarray:
    """An LV wall: a half ellipsoid shell that closes toward the first slices; ``growth`` makes it thicker outside."""
    draw = np.random.default_rng(seed)
    z, y, x = np.indices(shape).astype(float)
    size = draw.uniform(0.9, 1.1)
    center = (shape[0] - 2, shape[1] / 2 + draw.uniform(-2, 2), shape[2] / 2 + draw.uniform(-2, 2))

    def radius(half_length: float, half_width: float) -> np.ndarray:
        return (
            ((z - center[0]) / half_length) ** 2
            + ((y - center[1]) / half_width) ** 2
            + ((x - center[2]) / half_width) ** 2
        )

    outer = radius(10.2 * size + growth, 9.5 * size + growth) <= 1
    return outer & (radius(8.2 * size, 6.3 * size) > 1) & (z < center[0])


def short_axis_affine() -> np.ndarray:
    """Columns run lateral, rows inferior, slices toward the apex, in RAS."""
    apical = np.array([-0.66, 0.53, -0.53])
    lateral = np.cross(apical, [0.2, 0.2, 1.0])
    inferior = np.cross(apical, lateral)
    axes = [axis / np.linalg.norm(axis) for axis in (lateral, inferior, apical)]
    affine = np.eye(4)
    for column, (axis, step) in enumerate(zip(axes, SPACING_MM[::-1], strict=True)):
        affine[:3, column] = axis * step
    if affine[2, 1] > 0:
        affine[:3, 1] *= -1
    if affine[0, 0] > 0:
        affine[:3, 0] *= -1
    return affine


def make_cohort(root: Path, num_patients: int = 6, domain: str = "short_axis", **metadata: Any) -> Cohort:
    affine = short_axis_affine() if domain == "short_axis" else affine_from_spacing((1.0, 6.8, 6.8))
    rows = []
    for patient in range(num_patients):
        case_id = f"P{patient:03d}-stress"
        target = heart(patient)
        draw = np.random.default_rng([7, patient])
        image = draw.poisson(12 + 70 * target).astype(np.float32)
        for axis in range(3):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
        is_volume = domain != "projection"
        write_image(root / "images" / f"{case_id}.nii.gz", image, affine, is_distance_z=is_volume)
        write_mask(root / "labels" / "truth" / f"{case_id}.nii.gz", target, affine, is_distance_z=is_volume)
        rows.append(
            {
                "case_id": case_id,
                "patient_id": f"P{patient:03d}",
                "acquisition": "stress",
                "gate": "",
                "camera": "",
                "image": f"images/{case_id}.nii.gz",
                "label_truth": f"labels/truth/{case_id}.nii.gz",
            }
        )
    content = {
        "name": "shells",
        "domain": domain,
        "label": "lv_wall" if domain == "short_axis" else "lv_filled",
        "readers": ["truth"],
        "simulated_readers": True,
        "source": "ellipsoidal shells of a test",
        "licence": "CC0-1.0",
        "intensities": "counts",
        "spacing_known": True,
    }
    write_cohort_table(root, metadata=content | metadata, rows=rows)
    return Cohort.open(root)


def metric(values: list[float], label: str, unit: str = "", better: str = "up") -> dict[str, Any]:
    """What the evaluation writes for one score, in the same shape."""
    array = np.array(values)
    half = 2.0 * array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else 0.0
    low, median, high = np.percentile(array, [25, 50, 75]).tolist()
    mean = float(array.mean())
    return {
        "label": label,
        "unit": unit,
        "better": better,
        "role": "primary",
        "definition": f"definition of {label}",
        "n": len(values),
        "n_undefined": 0,
        "n_infinite": 0,
        "mean": mean,
        "sd": float(array.std()),
        "ci95": [mean - half, mean + half],
        "ci_method": "t over patients",
        "median": median,
        "iqr": [low, high],
        "min": min(values),
        "max": max(values),
        "note": "",
    }


def overlap_scores(preds: np.ndarray, target: np.ndarray) -> dict[str, float]:
    tp, fp = int((preds & target).sum()), int((preds & ~target).sum())
    fn, tn = int((~preds & target).sum()), int((~preds & ~target).sum())
    dice, iou = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    scores = {"dice": dice, "iou": iou, "precision": tp / max(tp + fp, 1), "recall": tp / (tp + fn)}
    scores |= {"specificity": tn / (tn + fp), "accuracy": (tp + tn) / preds.size}
    scores |= {"macro_dice": (dice + 2 * tn / (2 * tn + fp + fn)) / 2, "macro_iou": (iou + tn / (tn + fp + fn)) / 2}
    return scores | {"hd95_mm": 9 * (1 - dice) * 10, "assd_mm": 12 * (1 - dice), "nsd": dice**0.5}


LABELS = {
    "dice": "Dice (LV)",
    "iou": "IoU (LV)",
    "precision": "Precision (LV)",
    "recall": "Recall (LV)",
    "specificity": "Specificity",
    "accuracy": "Accuracy (all pixels)",
    "macro_dice": "Dice (mean of background and LV)",
    "macro_iou": "IoU (mean of background and LV)",
    "hd95_mm": "HD95",
    "assd_mm": "ASSD",
    "nsd": "Surface Dice (NSD)",
}


def write_rows(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)


def make_run(run: Path, cohort: Cohort, num_folds: int = NUM_FOLDS) -> Path:
    """A finished run on ``cohort``: the network errs by a thicker wall, a shift and lost slices."""
    run.mkdir(parents=True)
    scores: dict[str, dict[str, float]] = {}
    fold_of = {patient: index % num_folds for index, patient in enumerate(cohort.patients)}
    score_rows, operating = [], {fold: [] for fold in range(num_folds)}
    for index, case in enumerate(cohort.cases):
        draw = np.random.default_rng([11, index])
        target = case.read_mask("truth")
        preds = np.roll(heart(index, target.shape, growth=draw.uniform(-0.3, 1.1)), index % 3 == 0, axis=2)
        if index == 1:
            preds[:9] = False
        affine = case.read_image().affine
        is_volume = cohort.domain != "projection"
        write_mask(run / "predictions" / f"{case.case_id}.nii.gz", preds, affine, is_distance_z=is_volume)
        scores[case.patient_id] = overlap_scores(preds, target)
        fold = fold_of[case.patient_id]
        for name, value in scores[case.patient_id].items():
            unit = "mm" if name.endswith("_mm") else ""
            score_rows.append([case.patient_id, case.case_id, "truth", fold, name, value, unit])
        distance = np.clip(0.5 + 0.45 * np.where(preds, 1, -1) + 0.25 * draw.standard_normal(preds.shape), 0, 1)
        for threshold in np.linspace(0, 1, 41):
            called = distance >= threshold
            counts = [
                (called & target).sum(),
                (called & ~target).sum(),
                (~called & target).sum(),
                (~called & ~target).sum(),
            ]
            operating[fold].append([case.patient_id, round(float(threshold), 3), *map(int, counts)])
    write_rows(run / "scores.csv", ["patient_id", "case_id", "reader", "fold", "metric", "value", "unit"], score_rows)
    folds = []
    for fold in range(num_folds):
        draw = np.random.default_rng([3, fold])
        epochs = np.arange(12)
        train = 0.75 * np.exp(-epochs / 3) + 0.12 + 0.01 * draw.standard_normal(12)
        val = 0.75 * np.exp(-epochs / 3) + 0.17 + 0.0008 * epochs**2 + 0.02 * draw.standard_normal(12)
        curves = [epochs, train, val, 1 - val, np.full(12, 1e-3), np.full(12, 4.2)]
        rows = np.stack(curves, axis=1).tolist()
        columns = ["epoch", "train_loss", "val_loss", "val_dice", "learning_rate", "seconds"]
        write_rows(run / f"fold_{fold}" / "metrics.csv", columns, rows)
        write_rows(
            run / f"fold_{fold}" / "operating.csv", ["patient_id", "threshold", "tp", "fp", "fn", "tn"], operating[fold]
        )
        best = int(val.argmin())
        members = [patient for patient in cohort.patients if fold_of[patient] == fold]
        sizes = {"num_train_patients": len(cohort.patients) - len(members) - 1, "num_val_patients": 1}
        facts = {"fold": fold, "best_epoch": best, "best_val_dice": 1 - val[best], "epochs": 12, "seconds": 50.4}
        write(run / f"fold_{fold}" / "fold.json", facts | sizes | {"num_test_patients": len(members), "threshold": 0.5})
        means = {name: float(np.mean([scores[patient][name] for patient in members])) for name in LABELS}
        folds.append(facts | {"n_patients": len(members)} | means)
    metrics = {
        name: metric([scores[patient][name] for patient in cohort.patients], label, "mm" if "mm" in name else "")
        for name, label in LABELS.items()
    }
    rules = {
        "all_background": ("All background", 0.0, 0.95),
        "mean_shape": ("Mean shape of the other patients", 0.61, 0.97),
    }
    baselines = {
        name: {"label": label, "metrics": {"dice": metric([d, d + 0.02], ""), "accuracy": metric([a, a + 0.01], "")}}
        for name, (label, d, a) in rules.items()
    }
    spacing = [float(step) for step in SPACING_MM]
    summary = {
        "schema_version": "1.0.0",
        "name": "kfold_dice",
        "created": "2026-01-02T03:04:05+00:00",
        "complete": True,
        "design": {
            "unit": "patient",
            "split": "kfold",
            "num_folds": num_folds,
            "n_patients": len(cohort.patients),
            "n_cases": len(cohort.cases),
            "n_frames": 14 * len(cohort.cases),
            "reader": "truth",
            "simulated_readers": cohort.simulated_readers,
            "domain": cohort.domain,
            "label": cohort.label,
            "spacing_mm": spacing if cohort.spacing_known else None,
            "leakage_allowed": False,
            "loss": "dice",
            "model": "unet",
            "aggregation": "pixel counts summed over the frames of a case; mean over the cases of a patient",
        },
        "metrics": metrics,
        "folds": folds,
        "baselines": baselines,
        "operating": {
            "threshold": 0.5,
            "how": "frozen before the held-out patients were looked at",
            "recall": 0.91,
            "precision": 0.88,
            "false_positive_rate": 0.006,
        },
        "warnings": [],
    }
    write(run / "summary.json", summary)
    environment = {"mpi_unet": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "device": "cpu", "seed": 7}
    environment |= {"command": "python -m mpi_unet.train experiment=kfold_dice", "cohort_fingerprint": "ab" * 32}
    write(run / "environment.json", environment)
    sides = [{"train": ["x"] * 3, "val": ["y"], "test": ["z"] * 2} for _ in range(num_folds)]
    write(run / "splits.json", {"strategy": "kfold", "fingerprint": "ab" * 32, "note": "by patient", "folds": sides})
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("name: kfold_dice\nseed: 7\n")
    (run / ".hydra" / "overrides.yaml").write_text("- experiment=kfold_dice\n")
    return run


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


class Page(HTMLParser):
    """A page taken apart: balanced tags, ids, links, headings and the text outside style and drawings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.open_tags: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute is given twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open_tags and "svg" not in self.open_tags and data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.elements if attribute in attrs]


def change(run: Path, changes: Callable[[dict[str, Any]], object]) -> None:
    summary = json.loads((run / "summary.json").read_text())
    changes(summary)
    write(run / "summary.json", summary)


def assert_sound(page: Page) -> None:
    """What holds for every page of this room."""
    ids = page.values("id")
    assert len(ids) == len(set(ids)), sorted({name for name in ids if ids.count(name) > 1})
    for target in page.values("href") + page.values("src") + page.values("xlink:href"):
        assert target.startswith(("#", "data:")) or "://" not in target, target
        assert not target.startswith("#") or target[1:] in ids, target
    assert not re.search(r"url\(\s*[\"']?(?!#)", page.source)
    assert not any(page.all(tag) for tag in ("script", "iframe", "img", "object"))
    assert "@import" not in page.source
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    for drawn in page.all("svg"):
        assert drawn.get("aria-label") or drawn.get("aria-hidden") == "true"
    assert page.all("html")[0]["lang"] == "en"
    assert any(attrs.get("name") == "viewport" for attrs in page.all("meta"))
    assert forbidden_words(page.text) == []
    assert not re.search(r"-0\.0+(?!\d)", page.text)  # -0.0004 is a number, -0.000 is none
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text
