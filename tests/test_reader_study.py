"""Who is compared with whom, what is left out, and the numbers of a study against direct computation."""

from __future__ import annotations

import csv
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import SPACING_MM, edit_metadata, edit_row, label_path, write_tiny_cohort

from mpi_unet.agreement.panel_scores import average_cases
from mpi_unet.cohort.nifti import affine_from_spacing, write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.errors import AgreementError, CohortError
from mpi_unet.reader_study.masks import network_of
from mpi_unet.reader_study.options import StudyOptions, choose_readers
from mpi_unet.reader_study.study import reader_study

CREATED = "2026-06-01T00:00:00+00:00"


def disk(center: tuple[float, float, float], radius: float) -> np.ndarray:
    z, y, x = np.mgrid[:6, :32, :32]
    return 4 * (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 < radius**2


def write_read_cohort(
    root: Path,
    num_patients: int = 6,
    readers: tuple[str, ...] = ("A", "B", "C", "N"),
    *,
    cases: int = 1,
    domain: str = "short_axis",
    repeats: dict[str, str] | None = None,
    seed: int = 0,
    simulated: bool = False,
    spacing_known: bool = True,
) -> Cohort:
    """Readers who draw one ball each with an error of their own; columns of ``repeats`` redraw their reader's."""
    rng = np.random.default_rng(seed)
    affine = affine_from_spacing(SPACING_MM)
    repeats, rows = repeats or {}, []
    for patient in range(num_patients):
        for number in range(cases):
            case_id = f"P{patient:02d}_{'rest' if number == 0 else 'stress'}"
            center, radius = rng.normal((3, 16, 16), 0.5), rng.uniform(6, 9)
            image = rng.poisson(5, (6, 32, 32)).astype(np.float32)
            is_volume = domain != "projection"
            write_image(root / f"images/{case_id}.nii.gz", image, affine, is_distance_z=is_volume)
            row = {"case_id": case_id, "patient_id": f"P{patient:02d}", "acquisition": case_id[4:]}
            row |= {"image": f"images/{case_id}.nii.gz", "sex": "FM"[patient % 2]}
            for place, reader in enumerate((*readers, *repeats)):
                mask = disk(center + rng.normal(0, 0.4, 3), radius + 0.3 * place)
                write_mask(label_path(root, case_id, reader), mask, affine, is_distance_z=is_volume)
                row[f"label_{reader}"] = f"labels/{reader}/{case_id}.nii.gz"
            rows.append(row)
    metadata = {
        "name": "read",
        "domain": domain,
        "label": "lv_filled",
        "readers": [*readers, *repeats],
        "simulated_readers": simulated,
        "source": "tests",
        "licence": "Apache-2.0",
        "intensities": "counts",
        "spacing_known": spacing_known,
        "repeat_reads": repeats,
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return Cohort.open(root)


def study(cohort: Cohort, predictions: str | None, output: Path, *, allow_missing: bool = False, **options):
    network = None if predictions is None else network_of(cohort, predictions)
    return reader_study(
        output,
        cohort,
        cohort.cases,
        network,
        StudyOptions(**{"resamples": 1000, **options}),
        mode="readers_only" if network is None else "predictions",
        created=CREATED,
        allow_missing=allow_missing,
    )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


# --- who is in the panel ---


def test_second_reads_the_truth_and_consensus_are_no_readers(tmp_path):
    cohort = write_read_cohort(tmp_path, 1, ("truth", "A", "B", "M"), repeats={"A2": "A"}, simulated=True)
    edit_metadata(tmp_path, reader_facts={"M": {"consensus_of": ["A", "B"]}})
    cohort = Cohort.open(tmp_path)
    choice = choose_readers(cohort)
    assert choice.readers == ("A", "B")
    assert choice.repeats == {"A2": "A"}
    assert dict(choice.left_out) == {
        "truth": "the known truth of the phantom is no reader",
        "M": "consensus of A, B",
        "A2": "second read by A",
    }
    assert choose_readers(cohort, ["truth", "A"]).readers == ("truth", "A")
    assert choose_readers(cohort, network_column="B").readers == ("A",)


def test_readers_that_cannot_be_the_panel(tmp_path):
    cohort = write_read_cohort(tmp_path, 1, ("anna", "B"), repeats={"B2": "B"})
    with pytest.raises(
        AgreementError,
        match=r"(?s)ana: nobody of that name.*did you mean 'anna'.*B2: is the second read by B.*B: named twice.*"
        r"Readers of .*: anna, B$",
    ):
        choose_readers(cohort, ["ana", "B2", "B", "B"])
    with pytest.raises(AgreementError, match="it is what is compared with the readers"):
        choose_readers(cohort, ["B"], network_column="B")


def test_nobody_is_compared_with_the_own_outlines(tmp_path):
    """Neither in the panel beside a consensus, nor against a consensus or a second read as if it were a network."""
    write_read_cohort(tmp_path, 1, ("A", "B", "C", "M"), repeats={"A2": "A"})
    edit_metadata(tmp_path, reader_facts={"M": {"consensus_of": ["A2", "B"]}})
    cohort = Cohort.open(tmp_path)
    with pytest.raises(AgreementError, match="M: M and A both hold outlines by A; nobody is compared with the own"):
        choose_readers(cohort, ["A", "C", "M"])
    assert choose_readers(cohort, ["C", "M"]).readers == ("C", "M")
    with pytest.raises(AgreementError, match="B: B and M both hold outlines by B"):
        choose_readers(cohort, ["B", "C"], network_column="M")
    choice = choose_readers(cohort, network_column="M")
    assert choice.readers == ("C",)
    assert dict(choice.left_out)["A"] == "the own outlines are in M, which is compared with the readers"
    assert choose_readers(cohort, network_column="A2").readers == ("B", "C")
    assert choose_readers(cohort, network_column="A").readers == ("B", "C")


def test_reader_called_like_a_part_of_the_report_is_refused(tmp_path):
    cohort = write_read_cohort(tmp_path, 1, ("network", "B"))
    with pytest.raises(AgreementError, match=r"is called 'network'.*rename the column, or name the other readers"):
        choose_readers(cohort)


def test_nobody_to_compare_with(tmp_path):
    cohort = write_read_cohort(tmp_path, 1, ("A",))
    with pytest.raises(AgreementError, match=r"nobody outlined .* name them with readers="):
        study(cohort, "A", tmp_path / "out")
    with pytest.raises(AgreementError, match=r"has 1 who can be compared \(A\); add the outlines of another reader"):
        study(cohort, None, tmp_path / "out")


# --- which masks ---


def test_folder_column_and_neither(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 2)
    assert network_of(cohort, "N").column == "N"
    folder = network_of(cohort, str(tmp_path / "c/labels/B"), "nnU-Net", ["A"])
    assert (folder.name, folder.column, folder.trained_on, len(folder.masks)) == ("nnU-Net", None, ("A",), 2)
    with pytest.raises(AgreementError, match=r"predictions=M is neither a folder nor a reader of .* A, B, C, N"):
        network_of(cohort, "M")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "case_001.nii.gz").touch()
    with pytest.raises(AgreementError, match=r"(?s)expected names such as P00_rest.nii.gz, found:\n  case_001"):
        network_of(cohort, str(tmp_path / "empty"))
    with pytest.raises(AgreementError, match=r"trained_on names AA, who did not outline"):
        network_of(cohort, "N", trained_on=["AA"])


def test_missing_predictions_are_all_named_or_counted(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4)
    folder = tmp_path / "c/labels/N"
    for case_id in ("P01_rest", "P03_rest"):
        (folder / f"{case_id}.nii.gz").unlink()
    with pytest.raises(
        AgreementError, match=r"(?s)no mask for 2 of 4 cases:\n  P01_rest\n  P03_rest\n.*allow_missing=true"
    ):
        study(cohort, str(folder), tmp_path / "out", readers=("A", "B"))
    document = study(cohort, str(folder), tmp_path / "out", readers=("A", "B"), allow_missing=True)
    assert [entry["case_id"] for entry in document["cohort"]["left_out"]] == ["P01_rest", "P03_rest"]
    assert document["design"]["n_patients"] == 2
    assert document["cohort"]["n_patients"] == 4
    assert "2 patients could not enter, for lack of an outline or a score." in document["conclusion"]["text"]
    document = study(cohort, str(folder), tmp_path / "one", readers=("A",), allow_missing=True)
    assert "2 patients could not enter" in document["conclusion"]["text"]


def test_masks_on_another_grid_are_named_together(tmp_path):
    cohort = write_read_cohort(tmp_path, 3)
    small = np.zeros((6, 16, 16), bool)
    write_mask(label_path(tmp_path, "P00_rest", "N"), small, affine_from_spacing(SPACING_MM))
    write_mask(label_path(tmp_path, "P02_rest", "B"), disk((3, 16, 16), 6), affine_from_spacing((6.4, 3.2, 4.0)))
    with pytest.raises(
        CohortError,
        match=r"(?s)2 masks cannot be compared.*P00_rest: label of network is 6x16x16, image is 6x32x32.*"
        r"P02_rest: spacing of the label of B is 6.4 x 3.2 x 4 mm",
    ):
        study(cohort, "N", tmp_path / "out")


def test_masks_that_are_not_binary_are_named(tmp_path):
    cohort = write_read_cohort(tmp_path, 3)
    values = disk((3, 16, 16), 6).astype(np.float32) * 2
    write_image(label_path(tmp_path, "P01_rest", "N"), values, affine_from_spacing(SPACING_MM))
    with pytest.raises(CohortError, match=r"P01_rest: network: P01_rest.nii.gz: label holds the values 0, 2; expected"):
        study(cohort, "N", tmp_path / "out")


def test_reader_who_did_not_outline_a_case(tmp_path):
    cohort = write_read_cohort(tmp_path, 5)
    edit_row(tmp_path, 2, label_B="")
    cohort = Cohort.open(tmp_path)
    document = study(cohort, "N", tmp_path / "out")
    assert document["cohort"]["left_out"] == [
        {"case_id": "P02_rest", "reason": "no outline of reader B; compared among the others only"}
    ]
    assert document["agreement"]["dice"]["delta"]["n"] == 4
    assert document["agreement"]["dice"]["n_left_out"] == 1
    assert "all patients with two or more readers" in {entry["what"] for entry in document["sensitivity"]}
    assert "One patient could not enter" in document["conclusion"]["text"]


def test_slices_are_no_cases(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 1)
    import nibabel as nib

    folder = tmp_path / "slices"
    folder.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((32, 32), np.uint8), np.eye(4)), folder / "P00_rest.nii.gz")
    with pytest.raises(CohortError, match="shape is 32x32; expected three axes"):
        study(cohort, str(folder), tmp_path / "out")


# --- the numbers ---


def test_difference_is_that_of_the_masks_themselves(tmp_path):
    cohort = write_read_cohort(tmp_path, 6, cases=2)
    document = study(cohort, "N", tmp_path / "out", margin=0.02, margin_source="x", margin_registered_at="2026-01-01")
    expected = {}
    for patient in cohort.patients:
        cases = cohort.cases_of(patient)
        masks = [{reader: case.read_mask(reader) for reader in cohort.readers} for case in cases]
        p0 = np.mean([dice(one["N"], one[reader]) for one in masks for reader in "ABC"])
        pn = np.mean([dice(one[a], one[b]) for one in masks for a, b in combinations("ABC", 2)])
        expected[patient] = (p0, pn)
    block = document["agreement"]["dice"]
    assert block["delta"]["value"] == pytest.approx(np.mean([p0 - pn for p0, pn in expected.values()]))
    assert block["P0"]["n"] == 6
    for row in block["per_patient"]:
        assert (row["p0"], row["pn"]) == pytest.approx(expected[row["patient_id"]])
    assert block["attained_margin"] == max(abs(block["ci_decision"][end]) for end in ("low", "high"))
    assert block["p_tost"] >= block["p_noninferior"]
    assert document["agreement"]["iou"]["p_tost"] is None, "the margin is one of the Dice"
    assert document["agreement"]["iou"]["verdict"] == "not_assessable"
    assert block["verdict"] == document["conclusion"]["verdict"]
    assert document["design"]["n_cases"] == 12


def test_volumes_against_direct_computation(tmp_path):
    cohort = write_read_cohort(tmp_path, 6)
    volume = study(cohort, "N", tmp_path / "out")["volume"]
    voxel_ml = np.prod(SPACING_MM) / 1000
    measured = np.array([[case.read_mask(name).sum() * voxel_ml for name in "NABC"] for case in cohort.cases])
    first, single = volume["pairs"][0], volume["pairs"][1]
    assert (first["a"], first["b"]) == ("network", "mean of readers")
    differences = measured[:, 0] - measured[:, 1:].mean(axis=1)
    assert first["bias"]["value"] == pytest.approx(differences.mean(), abs=1e-3)
    assert first["limits"]["high"]["value"] == pytest.approx(
        differences.mean() + 1.959964 * differences.std(ddof=1), abs=1e-3
    )
    assert (single["a"], single["b"]) == ("network", "A")
    assert len(volume["pairs"]) == 1 + 6
    assert set(volume["icc"]["readers"]) == {"ICC(1,1)", "ICC(A,1)", "ICC(C,1)", "ICC(1,k)", "ICC(A,k)", "ICC(C,k)"}
    assert volume["icc"]["with_network"]["ICC(A,1)"]["value"] < 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"domain": "projection"}, "a projection has no depth"),
        ({"spacing_known": False}, "size of a pixel is not known"),
    ],
)
def test_volumes_that_cannot_be_measured(tmp_path, changes, why):
    cohort = write_read_cohort(tmp_path, 4, **changes)
    document = study(cohort, "N", tmp_path / "out")
    assert not document["volume"]["available"]
    assert why in document["volume"]["why_not"]
    assert "volume_difference_ml" not in document["scores"]


def test_surface_dice_as_verdict_needs_millimeters(tmp_path):
    cohort = write_read_cohort(tmp_path, 4, spacing_known=False)
    with pytest.raises(AgreementError, match=r"metric=nsd was not measured.*choose metric=dice or iou"):
        study(cohort, "N", tmp_path / "out", metric="nsd")


def test_second_reads_give_repeatability_and_tolerance(tmp_path):
    cohort = write_read_cohort(tmp_path, 6, ("A", "B", "N"), repeats={"A2": "A"})
    document = study(cohort, "N", tmp_path / "out")
    [read] = document["repeatability"]
    expected = [dice(case.read_mask("A2"), case.read_mask("A")) for case in cohort.cases]
    assert read["dice"]["mean"] == pytest.approx(np.mean(expected))
    assert read["volume"]["a"] == "A2"
    assert read["psi"]["value"] > 0
    assert document["design"]["tolerance_source"].endswith("median surface distance between two reads of one reader")
    assert document["design"]["tolerance_mm"] >= SPACING_MM[1] / 2
    assert document["design"]["readers_left_out"] == [{"reader": "A2", "reason": "second read by A"}]
    assert not any("A2" in (pair["a"], pair["b"]) for pair in document["scores"]["dice"]["by_pair"])


@pytest.mark.parametrize(
    ("readers", "given", "tolerance_mm", "source"),
    [
        (("A", "B", "N"), None, None, "between two readers"),
        (("A", "N"), None, 3.0, "no two readings could be compared"),
        (("A", "B", "N"), 5.0, 5.0, "as given"),
    ],
)
def test_tolerance_of_the_surface_dice(tmp_path, readers, given, tolerance_mm, source):
    document = study(write_read_cohort(tmp_path, 4, readers), "N", tmp_path / "out", tolerance_mm=given)
    assert source in document["design"]["tolerance_source"]
    assert tolerance_mm is None or document["design"]["tolerance_mm"] == tolerance_mm


def test_failures_are_listed(tmp_path):
    cohort = write_read_cohort(tmp_path, 5)
    write_mask(label_path(tmp_path, "P03_rest", "N"), np.zeros((6, 32, 32), bool), affine_from_spacing(SPACING_MM))
    document = study(cohort, "N", tmp_path / "out")
    failures = document["failures"]
    assert (failures["k"], failures["n"], failures["kind"]) == (1, 5, "below_readers")
    assert failures["patients"][0]["case_id"] == "P03_rest"
    assert failures["patients"][0]["p0"] == 0
    one = study(cohort, "N", tmp_path / "one", readers=("A",))["failures"]
    assert (one["kind"], one["definition"], one["k"]) == ("below_threshold", "p0 < 0.70", 1)
    hd95 = document["scores"]["hd95_mm"]["by_pair"][0]["summary"]
    assert (hd95["n_infinite"], hd95["max"]) == (1, "inf")
    among = study(cohort, None, tmp_path / "among", readers=("A", "B"), failure_below=0.99)["failures"]
    assert among["kind"] == "pair_below_threshold"


def test_subgroups_share_one_family_of_tests(tmp_path):
    cohort = write_read_cohort(tmp_path, 12, cases=2)
    rows = study(cohort, "N", tmp_path / "out")["subgroups"]
    assert [(row["column"], row["value"], row["n"]) for row in rows] == [
        ("acquisition", "rest", 12),
        ("acquisition", "stress", 12),
        ("sex", "F", 6),
        ("sex", "M", 6),
    ]
    assert rows[0]["p"] is None, "rest and stress are of the same patients"
    assert rows[2]["p"] == pytest.approx(rows[3]["p"])
    assert rows[2]["p_holm"] == pytest.approx(rows[2]["p"])
    assert study(cohort, "N", tmp_path / "none", subgroups=())["subgroups"] == []
    with pytest.raises(AgreementError, match=r"subgroups: sexx is no column of .*columns there: acquisition, gate"):
        study(cohort, "N", tmp_path / "wrong", subgroups=("sexx",))


def test_consensus_never_contains_who_is_scored(tmp_path):
    cohort = write_read_cohort(tmp_path, 4)
    document = study(cohort, "N", tmp_path / "out")
    masks = {name: cohort.cases[0].read_mask(name) for name in "ABCN"}
    others = np.mean([masks["B"], masks["C"]], axis=0) > 0.5
    consensus = document["consensus"]
    against = {row["reader"]: row for row in consensus["readers_against_others"]}
    per_case = []
    for case in cohort.cases:
        read = {name: case.read_mask(name) for name in "ABC"}
        per_case.append(dice(read["A"], read["B"] & read["C"]))
    assert np.array_equal(others, masks["B"] & masks["C"])
    assert against["A"]["dice"]["mean"] == pytest.approx(np.mean(per_case))
    assert [row["reference"] for row in consensus["network_against"]] == ["majority", "staple"]
    assert len(consensus["staple"]["per_reader"]) == 3
    assert "against the majority of the other readers" in {row["what"] for row in document["sensitivity"]}
    assert study(cohort, "N", tmp_path / "two", readers=("A", "B"))["consensus"] is None


def test_readers_who_trained_the_network_are_found_and_left_out_once(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4)
    edit_metadata(tmp_path / "c", reader_facts={"C": {"consensus_of": ["A"], "blinded": False}})
    cohort = Cohort.open(tmp_path / "c")
    network = network_of(cohort, "N", trained_on=["C"])
    document = reader_study(
        tmp_path / "out",
        cohort,
        cohort.cases,
        network,
        StudyOptions(readers=("A", "B"), resamples=1000),
        mode="predictions",
        created=CREATED,
    )
    assert document["design"]["consensus_members"] == ["A"]
    assert "reader_in_consensus" in document["conclusion"]["flags"]
    assert document["design"]["blinded"] is None
    assert "1 of these experts took part in the consensus" in document["conclusion"]["text"]


@pytest.mark.parametrize("num_patients", [1, 2])
def test_hardly_any_patients(tmp_path, num_patients):
    cohort = write_read_cohort(tmp_path, num_patients, repeats={"A2": "A"})
    document = study(cohort, "N", tmp_path / "out", margin=0.02, margin_source="x")
    assert document["volume"]["why_not"] == "fewer than 3 patients have all outlines"
    assert document["conclusion"]["verdict"] in ("not_assessable", "inconclusive")
    assert document["conclusion"]["sentences"][-1].startswith(f"In 0 of {num_patients} patient")


def test_one_reader_gives_metrics_and_no_verdict(tmp_path):
    cohort = write_read_cohort(tmp_path, 4, ("A", "N"))
    document = study(cohort, "N", tmp_path / "out", margin=0.02, margin_source="x")
    assert document["agreement"]["dice"]["Pn"] is None
    assert document["agreement"]["dice"]["P0"]["n"] == 4
    assert document["design"]["margin"] is None
    assert document["conclusion"]["verdict"] == "not_assessable"
    assert "agreement between experts was not measured" in document["conclusion"]["text"]
    assert document["sensitivity"] == []


# --- readers of LIDC-IDRI ---


def write_lidc_cohort(folder: Path, root: Path) -> list[dict[str, str]]:
    """Nodules as cases; the four columns are reading sessions, whose readers differ from nodule to nodule."""
    packed = np.load(folder / "masks_packed.npz")
    with (folder / "reference.csv").open(newline="") as lines:
        reference = list(csv.DictReader(lines))
    rows = []
    for nodule in reference:
        name, step = nodule["id"], float(nodule["pixel_spacing"])
        shape = packed[f"{name}_shape"]
        masks = np.unpackbits(packed[name])[: np.prod(shape)].reshape(shape).astype(bool).transpose(0, 3, 1, 2)
        affine = affine_from_spacing((float(nodule["slice_spacing"]), step, step))
        image = masks.sum(axis=0).astype(np.float32)
        write_image(root / f"images/{name}.nii.gz", image, affine)
        row = {"case_id": name, "patient_id": name.rpartition("_")[0], "image": f"images/{name}.nii.gz"}
        for reader, mask in zip("ABCD", masks[:4], strict=True):  # consensus and STAPLE follow
            write_mask(label_path(root, name, reader), np.ascontiguousarray(mask), affine)
            row[f"label_{reader}"] = f"labels/{reader}/{name}.nii.gz"
        rows.append(row)
    metadata = {
        "name": "lidc",
        "domain": "transaxial",
        "label": "lv_filled",
        "readers": list("ABCD"),
        "simulated_readers": False,
        "source": "LIDC-IDRI",
        "licence": "CC BY 3.0",
        "intensities": "votes",
        "spacing_known": True,
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return reference


def test_pairwise_dice_of_lidc_readers(tmp_path):
    data = os.environ.get("MPI_UNET_TEST_DATA")
    if not data:
        pytest.skip("MPI_UNET_TEST_DATA is unset: the folder with lidc_readers/reference.csv")
    reference = write_lidc_cohort(Path(data) / "lidc_readers", tmp_path / "lidc")
    cohort = Cohort.open(tmp_path / "lidc")
    document = study(cohort, None, tmp_path / "out", num_workers=1)
    with (tmp_path / "out/agreement_scores.csv").open(newline="") as lines:
        found = {
            (row["case_id"], row["preds"], row["target"]): float(row["value"])
            for row in csv.DictReader(lines)
            if row["metric"] == "dice"
        }
    means, patients = [], []
    for nodule in reference:
        expected = [float(value) for value in nodule["dice_pairs"].split(";")]
        values = [found[nodule["id"], a, b] for a, b in combinations("ABCD", 2)]
        assert values == pytest.approx(expected, abs=1e-6)
        means.append(np.mean(values))
        patients.append(nodule["id"].rpartition("_")[0])
    per_patient, _ = average_cases(np.array(means), patients)
    assert document["agreement"]["dice"]["Pn"]["value"] == pytest.approx(per_patient.mean())
    assert document["design"]["n_cases"] == 62
    assert "with one another averaged" in document["conclusion"]["text"]


def test_tiny_cohort_of_the_other_tests_is_compared_too(tmp_path):
    cohort = Cohort.open(write_tiny_cohort(tmp_path, 3, readers=("truth", "A", "B")))
    document = study(cohort, "truth", tmp_path / "out")
    assert document["design"]["readers"] == ["A", "B"]


# --- limits of agreement are those of one examination ---


def test_limits_of_patients_with_two_cases_are_those_of_a_single_case(tmp_path):
    """Means of two cases differ less; their limits would be too narrow by up to the root of two."""
    cohort = write_read_cohort(tmp_path / "cohort", 8, cases=2)
    document = study(cohort, "N", tmp_path / "out")
    [pair] = [pair for pair in document["volume"]["pairs"] if (pair["a"], pair["b"]) == ("network", "A")]
    volume_ml = float(np.prod(SPACING_MM)) / 1000
    differences = {}
    for case in cohort.cases:
        network, reader = (case.read_mask(name).sum() * volume_ml for name in ("N", "A"))
        differences.setdefault(case.patient_id, []).append(network - reader)
    table = np.array(list(differences.values()))
    within = table.var(axis=1, ddof=1).mean()
    between = max(0.0, table.mean(axis=1).var(ddof=1) - within / 2)
    sd = np.sqrt(between + within)
    assert pair["n"] == 8
    assert pair["bias"]["value"] == pytest.approx(table.mean())
    assert pair["sd"] == pytest.approx(sd)
    assert pair["limits"]["low"]["value"] == pytest.approx(table.mean() - 1.959964 * sd, abs=1e-4)
    assert pair["limits"]["high"]["method"] == "upper limit of single cases, patients having several"
    assert sd > table.mean(axis=1).std(ddof=1)
    assert pair["limits_percent"]["low"]["value"] < pair["bias_percent"]["value"]


def test_icc_of_few_readers_has_the_interval_that_holds(tmp_path):
    document = study(write_read_cohort(tmp_path / "cohort", 6), "N", tmp_path / "out")
    assert document["volume"]["icc"]["readers"]["ICC(A,1)"]["interval"]["method"].startswith("generalized")
