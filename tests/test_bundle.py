"""A run as a MONAI Bundle: what MONAI makes of it, what predict makes of it, and what it does not tell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from cohort_builders import read_rows, write_rows, write_tiny_cohort

from mpi_unet.cohort.nifti import read_image, read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, ConfigError, RunError
from mpi_unet.exporting.bundle import write_bundle
from mpi_unet.exporting.bundle_check import check_bundle
from mpi_unet.exporting.bundle_configs import BundlePlan, evaluation_config, inference_config
from mpi_unet.files import read_json, sha256, write_json
from mpi_unet.inference import predict
from mpi_unet.inference.model import open_model
from mpi_unet.inference.options import Options
from mpi_unet.learning.weights import total_stride

PLAIN = Options(measurements="volume", component="none")
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors")
SPECIFICATION = {
    "type": "object",
    "required": [*TEXTS, "copyright", "required_packages_version", "network_data_format"],
    "properties": {
        **{key: {"type": "string"} for key in (*TEXTS, "copyright", "data_source", "intended_use", "label_classes")},
        **{key: {"type": "object"} for key in ("changelog", "required_packages_version", "eval_metrics")},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {key: {"additionalProperties": TENSOR} for key in ("inputs", "outputs")},
        },
    },
}
"""What the specification of MONAI bundles asks of metadata.json, in our words."""


@pytest.fixture(scope="module")
def bundle(little_run, tmp_path_factory) -> Path:
    return write_bundle(little_run / "runs/train", tmp_path_factory.mktemp("bundles") / "little")


@pytest.fixture
def broken(bundle, tmp_path) -> Path:
    """A copy, to be broken."""
    return Path(shutil.copytree(bundle, tmp_path / "broken"))


@pytest.fixture(scope="module")
def unseen(tmp_path_factory) -> Path:
    """Five new patients, whose images have sides that the network has to fill up."""
    root = write_tiny_cohort(tmp_path_factory.mktemp("unseen") / "new", 5, size=31, num_frames=5, seed=1)
    rows = read_rows(root)
    write_rows(root, [row | {"patient_id": row["patient_id"].replace("P", "N")} for row in rows])
    return root


def plan_of(bundle: Path, component: str = "none", **changes) -> BundlePlan:
    record = read_json(bundle / "record/model.json")
    facts = {
        "model": record["model"],
        "deterministic": record["deterministic"],
        "files": [one["file"] for one in record["weights"]],
        "threshold": record["threshold"],
        "spatial_dims": 2,
        "divisor": total_stride(record["model"]),
        "is_projection": False,
    }
    return BundlePlan(component=component, **(facts | changes))


ALONE = """
import sys, json
sys.modules["mpi_unet"] = None                     # as where it is not installed
from monai.bundle import run, verify_metadata, verify_net_in_out
given = json.loads(sys.argv[1])
if given["schema"]:
    verify_metadata(meta_file="configs/metadata.json", filepath=given["schema"])
verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", device="cpu")
run(config_file="configs/inference.json", bundle_root=".", dataset_dir=given["images"], output_dir=given["masks"])
both = ["configs/inference.json", "configs/evaluation.json"]
words = {"dataset_dir": given["images"], "label_dir": given["labels"], "output_dir": given["scores"]}
run(config_file=both, bundle_root=".", **words)
"""


@pytest.mark.slow
def test_monai_alone_verifies_it_and_gives_the_masks_of_predict(bundle, unseen, little_run, tmp_path):
    schema = Path(os.environ.get("MPI_UNET_TEST_DATA", "-")) / "monai/meta_schema_20240725.json"
    given = {
        "schema": str(schema) if schema.is_file() else "",
        "images": str(unseen / "images"),
        "labels": str(unseen / "labels/truth"),
        "masks": str(tmp_path / "masks"),
        "scores": str(tmp_path / "scores"),
    }
    words = [sys.executable, "-W", "ignore", "-c", ALONE, json.dumps(given)]
    done = subprocess.run(words, cwd=bundle, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "data shape of network is verified with no error" in said
    assert ("metadata is verified with no error" in said) == bool(given["schema"])
    made = predict(little_run / "runs/train", unseen, tmp_path / "out", options=PLAIN, pages=False)
    dice = []
    for case in Cohort.open(unseen).cases:
        mask, own = (
            read_mask(tmp_path / f"masks/{case.case_id}.nii.gz"),
            read_mask(made.output / f"masks/{case.case_id}.nii.gz"),
        )
        np.testing.assert_array_equal(mask, own)
        np.testing.assert_allclose(
            read_image(tmp_path / f"masks/{case.case_id}.nii.gz").affine, case.read_image().affine
        )
        truth = case.read_mask("truth")
        dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    lines = (tmp_path / "scores/dice_raw.csv").read_text().splitlines()[1:]
    np.testing.assert_allclose([float(line.split(",")[1]) for line in lines], dice, rtol=1e-5)


def test_predict_takes_it_back_with_the_same_masks_for_new_patients_and_those_of_training(
    bundle, unseen, little_run, tmp_path
):
    for name, input in (("new", unseen), ("old", little_run / "cohort")):
        tables = []
        for run in (little_run / "runs/train", bundle):
            made = predict(
                run, input, tmp_path / f"{name}_{run.name}", options=Options(measurements="volume"), pages=False
            )
            tables.append(made.table.read_bytes())
            masks = sorted((made.output / "masks").iterdir())
            assert len(masks) == len(Cohort.open(input).cases)
            for mask in masks:
                other = tmp_path / f"{name}_train/masks" / mask.name
                np.testing.assert_array_equal(read_mask(mask), read_mask(other))
        assert tables[0] == tables[1]  # with what was seen in training, folds, predicted Dice
    assert b",image," in tables[0]


def test_it_names_no_patient_no_case_and_no_folder(bundle, little_run):
    texts = [path for path in bundle.rglob("*") if path.suffix in (".json", ".md", ".html") or path.name == "LICENSE"]
    assert len(texts) > 8
    for path in texts:
        text = path.read_text()
        assert not re.search(r"P0\d", text), path
        assert str(little_run) not in text
        assert "cohort_folder" not in text
    assert "patient 1" in (bundle / "record/splits.json").read_text()


def test_the_metadata_meet_the_specification_and_hold_the_data_contract(bundle, little_run):
    metadata = read_json(bundle / "configs/metadata.json")
    jsonschema.validate(metadata, SPECIFICATION)
    dice = read_json(little_run / "runs/train/summary.json")["metrics"]["dice"]
    assert (metadata["eval_metrics"]["dice"]["mean"], metadata["eval_metrics"]["dice"]["ci95"]) == (
        dice["mean"],
        dice["ci95"],
    )
    contract = metadata["data_contract"]
    assert (contract["domain"], contract["label"], contract["num_patients"]) == ("short_axis", "lv_wall", 6)
    assert contract["intensity_treatment"]["intensity"]["upper"] == 99
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "NM"
    assert "simulated images only" in metadata["intended_use"]


def test_every_file_of_weights_is_read_as_tensors_and_the_program_says_what_the_networks_say(bundle, little_run):
    image = torch.rand(3, 1, 8, 12)
    model = open_model(little_run / "runs/train")
    with torch.no_grad():
        wanted = sum(network(image).softmax(1) for network in model.networks) / 3
        for fold, network in enumerate(model.networks):
            state = torch.load(bundle / f"models/fold_{fold}.pt", weights_only=True)
            assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
        program = torch.export.load(bundle / "models/model.pt2").module()
        torch.testing.assert_close(program(image), wanted, rtol=0, atol=1e-6)
    first = torch.load(bundle / "models/fold_0.pt", weights_only=True)
    single = torch.load(bundle / "models/model.pt", weights_only=True)
    assert all(torch.equal(single[name], value) for name, value in first.items())


def test_the_card_has_the_numbers_of_the_run_in_both_forms(bundle, little_run):
    from mpi_unet.report.wording import forbidden_words, number

    summary = read_json(little_run / "runs/train/summary.json")
    markdown, html = (bundle / "docs/README.md").read_text(), (bundle / "docs/model_card.html").read_text()
    for name in ("dice", "iou", "hd95_mm"):
        metric = summary["metrics"][name]
        row = f"| {number(metric['mean'], metric['unit'])} | {number(metric['ci95'][0], metric['unit'])} to"
        assert row in markdown
        assert f"<td>{number(metric['mean'], metric['unit'])}</td>" in html
    for file in bundle.glob("models/*"):
        assert sha256(file.read_bytes()) in markdown
    assert "MONAI has no transform" in markdown
    assert "The figures describe a phantom" in markdown
    assert not forbidden_words(markdown)


def test_the_largest_part_is_kept_where_it_is_asked_for(little_run, tmp_path):
    pytest.importorskip("skimage")
    made = write_bundle(little_run / "runs/train", tmp_path / "bundle", component="largest", version="2.0.0")
    steps = [step["_target_"] for step in read_json(made / "configs/inference.json")["postprocessing"]["transforms"]]
    assert "KeepLargestConnectedComponentd" in steps
    metadata = read_json(made / "configs/metadata.json")
    assert "scikit-image" in metadata["required_packages_version"]
    assert metadata["version"] == "2.0.0"


# --- what is refused ---


def test_a_bundle_that_says_something_else_than_predict_is_not_written(broken, little_run):
    model = open_model(little_run / "runs/train")
    check_bundle(broken, plan_of(broken), model)
    other = {"intensity": {"_target_": "monai.transforms.NormalizeIntensityd", "keys": ["image"]}}
    write_json(broken / "configs/inference.json", inference_config(plan_of(broken, deterministic=other)))
    with pytest.raises(RunError, match=r"MONAI gives another mask than predict .* of \d+ voxels differ, expected none"):
        check_bundle(broken, plan_of(broken), model)


def test_classes_and_parts_that_monai_does_not_have_are_refused(bundle):
    foreign = {"a": {"_target_": "mpi_unet.learning.transforms.composed"}, "b": {"_target_": "monai.transforms.Flipd"}}
    with pytest.raises(ConfigError, match=r"transforms.deterministic.a._target_=mpi_unet\S+ is no part of MONAI"):
        plan_of(bundle, deterministic=foreign)
    with pytest.raises(ConfigError, match=r"component=plausible; expected none or largest: MONAI has no transform"):
        plan_of(bundle, "plausible")
    with pytest.raises(ConfigError, match=r"(?s)cannot become a bundle:.*model._target_=x.Y.*of each view"):
        plan_of(bundle, "largest", is_projection=True, model={"_target_": "x.Y"})


def test_transforms_of_labels_are_said_for_images_alone(bundle):
    both = {
        "a": {"_target_": "monai.transforms.Flipd", "keys": ["image", "label"]},
        "b": {"_target_": "monai.transforms.Flipd", "keys": ["label"]},
        "c": {},
    }
    steps = plan_of(bundle, deterministic=both).preprocessing
    assert [step["keys"] for step in steps if step["_target_"] == "monai.transforms.Flipd"] == [["image"]]


def test_a_volume_goes_through_a_network_of_volumes_at_once(bundle):
    plan = plan_of(bundle, spatial_dims=3)
    assert plan.inferer == {"_target_": "SimpleInferer"}
    assert plan.preprocessing[-1]["k"] == [2, 2, 2]
    assert set(evaluation_config(plan)) & set(inference_config(plan)) >= {"dataset", "postprocessing", "handlers"}


def test_weights_that_were_changed_lost_or_lie_elsewhere_are_refused(broken):
    (broken / "models/fold_1.pt").unlink()
    with (broken / "models/fold_0.pt").open("ab") as file:
        file.write(b"x")
    record = read_json(broken / "record/model.json")
    record["weights"][2]["file"] = "../../elsewhere.pt"
    write_json(broken / "record/model.json", record)
    with pytest.raises(RunError) as caught:
        open_model(broken)
    text = str(caught.value)
    assert "models/fold_0.pt: is not the file that was exported" in text
    assert "models/fold_1.pt: is missing" in text
    assert "../../elsewhere.pt: leads out of the bundle" in text
    assert "Copy the bundle again" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "2.0.0"}, "schema version 2.0.0, this mpi_unet reads 1.0.0"),
        ({"weights": [{"fold": 0}]}, r"cannot be read as the record of a bundle \('file'\)"),
        ({"weights": []}, "the record lists none"),
        ({"model": {"_target_": "os.system", "command": "true"}}, r"model._target_ is os.system"),
    ],
)
def test_records_that_cannot_be_used(broken, change, said):
    write_json(broken / "record/model.json", read_json(broken / "record/model.json") | change)
    with pytest.raises(RunError, match=said):
        open_model(broken)


def test_bundles_of_others_and_incomplete_ones_are_refused(broken, tmp_path):
    (broken / "record/domain.json").unlink()
    with pytest.raises(RunError, match=r"record lacks domain.json; export the bundle anew, or copy it whole"):
        open_model(broken)
    shutil.rmtree(broken / "record")
    with pytest.raises(RunError, match=r"is a MONAI bundle without record/model.json.*python -m monai.bundle run"):
        open_model(broken)


def test_what_cannot_be_exported(bundle, little_run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"is a bundle already; give the run that it was exported from"):
        write_bundle(bundle, tmp_path / "again")
    with pytest.raises(ConfigError, match=r"license=there is no file; give a text file"):
        write_bundle(little_run / "runs/train", tmp_path / "again", license="there")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.tex").write_text("all of it")
    with pytest.raises(CohortError, match=r"holds something that format=bundle did not make"):
        write_bundle(little_run / "runs/train", tmp_path / "taken")
    monkeypatch.setattr("mpi_unet.exporting.packages.find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=r"format=bundle needs pytorch-ignite, fire: pip install 'mpi-unet\[b"):
        write_bundle(little_run / "runs/train", tmp_path / "again")
