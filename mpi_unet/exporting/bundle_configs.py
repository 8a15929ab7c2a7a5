"""How MONAI runs a bundle: ``inference.json`` and ``evaluation.json``, in the words of MONAI and nothing else.

What ``predict`` does to an image is said in transforms of MONAI: axes (x, y, z) of the file become (z, y, x), the run's
deterministic transforms follow, sides are filled up to a multiple of the total stride at their end, every network of
the ensemble sees every frame (or the volume), softmax, the mean over networks, the threshold. Which parts of a mask
look like a ventricle is a rule of ours that MONAI has no transform for; ``largest`` it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_unet.errors import ConfigError, listing

__all__ = ["COMPONENTS", "BundlePlan", "evaluation_config", "inference_config"]

COMPONENTS = ("none", "largest")
"""Which parts of a mask MONAI can be told to keep."""

FRAMES_AT_ONCE = 128
"""As ``predict`` has it by default: other numbers move probabilities by a rounding error."""

TURNED = [0, 3, 2, 1]
"""Channel, x, y, z to channel, z, y, x, and back."""

Config = dict[str, Any]


@dataclass(frozen=True)
class BundlePlan:
    """What a bundle is to do.

    Attributes:
        model: ``_target_`` and arguments of the network.
        deterministic: Name to ``_target_`` and arguments of the transforms of every image.
        files: Weights, one file a network, relative to the bundle.
        threshold: Probability from which on a voxel is LV.
        spatial_dims: 2 for networks that see frames, 3 for those that see volumes.
        divisor: Total stride.
        component: ``none`` or ``largest``.
        is_projection: Frames are views.
    """

    model: Mapping[str, Any]
    deterministic: Mapping[str, Any]
    files: Sequence[str]
    threshold: float
    spatial_dims: int
    divisor: int
    component: str
    is_projection: bool

    def __post_init__(self) -> None:
        problems = [
            f"{key}._target_={path} is no part of MONAI or torch, which is all that a bundle may need; train with a "
            "class of theirs"
            for key, path in [
                ("model", str(self.model.get("_target_"))),
                *((f"transforms.deterministic.{name}", str(one["_target_"])) for name, one in self._transforms()),
            ]
            if path.partition(".")[0] not in ("monai", "torch")
        ]
        if self.component not in COMPONENTS:
            problems.append(
                f"component={self.component}; expected {' or '.join(COMPONENTS)}: MONAI has no transform for what "
                "predict calls plausible"
            )
        elif self.component == "largest" and self.is_projection:
            problems.append(
                "component=largest: of projections, predict keeps the largest part of each view, and MONAI that of the "
                "whole set; give component=none"
            )
        if problems:
            raise ConfigError(
                problems[0] if len(problems) == 1 else f"this run cannot become a bundle:\n{listing(problems)}"
            )

    def _transforms(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(name, given) for name, given in self.deterministic.items() if given]

    @property
    def keys(self) -> list[str]:
        """What each network says, by name."""
        return [f"pred_{number}" for number in range(len(self.files))]

    @property
    def preprocessing(self) -> list[Config]:
        """From a NIfTI file to what a network sees, (1, z, y, x)."""
        divisors = [1 if self.spatial_dims == 2 else self.divisor, self.divisor, self.divisor]
        return [
            {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader", "image_only": True},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Transposed", "keys": "image", "indices": TURNED},
            *(alone for _, given in self._transforms() if (alone := _for_images_alone(given))),
            {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
            {"_target_": "DivisiblePadd", "keys": "image", "k": divisors, "mode": "edge", "method": "end"},
        ]

    @property
    def inferer(self) -> Config:
        """Frame by frame, or the volume at once."""
        if self.spatial_dims == 3:
            return {"_target_": "SimpleInferer"}
        whole_frame = [-1, -1]
        return {
            "_target_": "SliceInferer",
            "roi_size": whole_frame,
            "spatial_dim": 0,
            "sw_batch_size": FRAMES_AT_ONCE,
            "overlap": 0.0,
        }

    @property
    def postprocessing(self) -> list[Config]:
        """From what the networks say to a mask (1, x, y, z) on the grid of the file."""
        steps: list[Config] = [
            {"_target_": "Activationsd", "keys": "@pred_keys", "softmax": True},
            {"_target_": "MeanEnsembled", "keys": "@pred_keys", "output_key": "pred"},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda probabilities: probabilities[1:]"},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": "@threshold"},
        ]
        if self.component == "largest":
            steps.append({"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]})
        return steps


def inference_config(plan: BundlePlan) -> Config:
    """``inference.json``: every NIfTI file of ``dataset_dir`` gets a mask of the same name in ``output_dir``."""
    loaders = [
        {
            "_target_": "CheckpointLoader",
            "load_path": f"$@bundle_root + '/{file}'",
            "load_dict": {"model": f"@networks#{number}"},
            "map_location": "@device",
        }
        for number, file in enumerate(plan.files)
    ]
    saving = [
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_ext": ".nii.gz",
            "output_dtype": "$np.uint8",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
        },
    ]
    return {
        "imports": ["$import glob", "$import torch", "$import numpy as np"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/masks'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii') + glob.glob(@dataset_dir + '/*.nii.gz'))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "threshold": plan.threshold,
        "network_def": dict(plan.model),
        "networks": ["%network_def"] * len(plan.files),
        "pred_keys": plan.keys,
        "preprocessing": {"_target_": "Compose", "transforms": plan.preprocessing},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": plan.inferer,
        "postprocessing": {"_target_": "Compose", "transforms": [*plan.postprocessing, *saving]},
        "handlers": loaders,
        "evaluator": {
            "_target_": "EnsembleEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "pred_keys": "@pred_keys",
            "networks": "@networks",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def evaluation_config(plan: BundlePlan) -> Config:
    """``evaluation.json``, given after ``inference.json``: Dice of each image with the outline of the same name.

    Dice counts the voxels of the whole file, as ``evaluate`` does for a case; the mean is over files.
    """
    inference = inference_config(plan)
    labels = [
        {"_target_": "LoadImaged", "keys": "label", "reader": "NibabelReader", "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": "label"},
    ]
    handlers = [
        *inference["handlers"],
        {
            "_target_": "MetricsSaver",
            "save_dir": "@output_dir",
            "metrics": ["dice"],
            "metric_details": ["dice"],
            "batch_transform": "$lambda items: [item['image'].meta for item in items]",
            "summary_ops": ["mean", "std", "min", "max"],
        },
    ]
    metric = {
        "_target_": "MeanDice",
        "include_background": True,
        "reduction": "mean",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
    return {
        "output_dir": "$@bundle_root + '/scores'",
        "label_dir": "$@bundle_root + '/labels'",
        "labels": "$[*map(lambda image, folder=@label_dir: folder + '/' + image.rpartition('/')[2], @datalist)]",
        "preprocessing": {"_target_": "Compose", "transforms": [*plan.preprocessing, *labels]},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i, 'label': l} for i, l in zip(@datalist, @labels, strict=True)]",
            "transform": "@preprocessing",
        },
        "postprocessing": {"_target_": "Compose", "transforms": plan.postprocessing},
        "key_metric": {"dice": metric},
        "handlers": handlers,
        "evaluator": inference["evaluator"] | {"key_val_metric": "@key_metric"},
        "run": ["$@evaluator.run()"],
    }


# --- Private helpers --------------------------------------------------------------------------------------------------


def _for_images_alone(transform: Mapping[str, Any]) -> Config | None:
    """A transform of images and labels, for images only: who infers has no label; None where nothing is left."""
    keys = transform.get("keys")
    kept = [key for key in (keys if isinstance(keys, list) else [keys]) if key != "label"]
    return {**transform, "keys": kept} if kept else None
