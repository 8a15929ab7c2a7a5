"""What the door predict is given: images unlike those of training, folders of DICOM files, gates of one study."""

from __future__ import annotations

import numpy as np
import pytest
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from predicting import door, everything, table, with_new_studies

from mpi_unet.cohort.nifti import write_image
from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation.components import Kept


@pytest.fixture
def folder(little_run, tmp_path):
    return with_new_studies(tmp_path, little_run)


# --- other domains ---


def test_projections_are_refused_by_a_network_of_slices_unless_allowed(folder, monkeypatch):
    write_tiny_cohort(folder / "flat", 2, domain="projection", label="lv_wall", seed=3)
    assert door(folder, monkeypatch, input="flat") == 2
    rows = table(folder / "out/predictions.csv")
    assert {row["status"] for row in rows} == {"refused"}
    assert rows[0]["reason"] == "it is a set of projections, the network learnt short-axis slices"
    assert door(folder, monkeypatch, "allow_other_domain=true", input="flat", output="allowed") == 0
    rows = table(folder / "allowed/predictions.csv")
    assert {row["status"] for row in rows} == {"segmented"}
    assert rows[0]["other_domain"].startswith("it is a set of projections")
    assert table(folder / "allowed/measurements.csv")[0]["why_not"] in (
        "projections have no volume",
        "nothing was outlined",
    )


def test_images_of_few_counts_are_allowed_alone_and_hearts_still_looked_for_in_their_place(folder, monkeypatch, capfd):
    """As the gates of a study are for a network that learnt images of all counts."""
    for case in Cohort.open(folder / "new").cases:
        image = case.read_image()
        write_image(case.image, image.array / 20, image.affine)
    assert door(folder, monkeypatch) == 2
    assert "allow_other_domain=[counts], for example, for single gates" in capfd.readouterr().err
    first = Cohort.open(folder / "new").cases[0]
    image = first.read_image()
    write_image(first.image, image.array, image.affine @ np.diag([2, 2, 2, 1]))
    by_place = []
    monkeypatch.setattr(
        "mpi_unet.inference.finishing.clean_case",
        lambda mask, *_, by_place, **_more: asked(mask, by_place),
    )

    def asked(mask, is_by_place):
        by_place.append(is_by_place)
        return Kept(mask, 0, 0)

    assert door(folder, monkeypatch, "allow_other_domain=[counts]", output="few") == 2
    rows = table(folder / "few/predictions.csv")
    assert [row["status"] for row in rows] == ["refused", *["segmented"] * 4]
    assert "mm, training had" in rows[0]["reason"]
    assert rows[1]["other_domain"].startswith("the sum of its values is")
    assert set(by_place) == {True}
    assert door(folder, monkeypatch, "allow_other_domain=[counts,geometry]", output="all") == 0
    assert set(by_place) == {True, False}


# --- folders of DICOM files ---


def test_an_export_of_a_clinic_is_segmented_and_every_file_has_its_row(folder, monkeypatch, capfd):
    from dicom_builders import clinic_tree, nm_image, put

    tree = clinic_tree(folder / "export")
    for patient in ("4711", "4712"):
        image = nm_image(patient=patient, plane="short_axis", name="stress SA", seed=int(patient))
        put(image, tree / f"MUSTER_{patient}" / "sa")
    put(nm_image(patient="", plane="short_axis", name="rest SA", study="rest", seed=9), tree / "nobody")
    words = ["source=dicom", f"source.key_file={folder / 'key'}", "allow_other_domain=true"]
    assert door(folder, monkeypatch, *words, input="export") == 2
    said = capfd.readouterr()
    assert "PredictionError: 6 of what was asked for" in said.err, (
        "half a file, nobody, and four acquisitions without slices"
    )
    rows = table(folder / "out/predictions.csv")
    files = table(folder / "out/cohort_private/files.csv")
    assert len(rows) == len(files) == 19
    segmented = [row for row in rows if row["status"] == "segmented"]
    assert len(segmented) == 2
    assert all(row["source_uid"].startswith("2.25.") for row in segmented)
    assert "it has 16 rows, training had 32" in segmented[0]["other_domain"]
    by_line = {f"line {line} of files.csv": file for line, file in enumerate(files, start=2)}
    became = {by_line[row["study_id"]]["file"]: row["status"] for row in rows if row["status"] != "segmented"}
    assert became["half.dcm"] == "failed"
    assert became["nobody"] == "refused"
    assert became["MUSTER_4711/ct.dcm"] == became["README.txt"] == became["export.zip"] == "not_a_study"
    assert became["MUSTER_4711/ST000/IM00"] == "refused"  # transaxial: said, but not what was asked for
    text = (folder / "out/predictions.csv").read_text() + said.out + said.err
    assert "MUSTER" not in text
    assert "4711" not in text
    before = everything(folder / "out")
    assert door(folder, monkeypatch, *words, "accept_incomplete=true", input="export") == 0
    assert everything(folder / "out") == before


def test_an_input_without_a_study_of_the_domain_is_refused_and_its_files_still_listed(folder, monkeypatch, capfd):
    from dicom_builders import clinic_tree

    clinic_tree(folder / "export")
    words = ["source=dicom", f"source.key_file={folder / 'key'}"]
    assert door(folder, monkeypatch, *words, input="export") == 2
    assert "None of the 16 files" in capfd.readouterr().err
    assert len(table(folder / "out/predictions.csv")) == 16


def test_files_that_share_an_identifier_and_differ_are_listed_and_stop_nobody(folder, monkeypatch, capfd):
    from dicom_builders import counts, nm_image, put

    for patient in ("4711", "4712"):
        image = nm_image(patient=patient, plane="short_axis", name="stress SA", seed=int(patient))
        put(image, folder / "export" / patient)
    image.PixelData = counts((5, 16, 16), 50).astype("<u2").tobytes()
    put(image, folder / "export" / "other")
    words = ["source=dicom", f"source.key_file={folder / 'key'}", "allow_other_domain=true"]
    assert door(folder, monkeypatch, *words, input="export") == 2
    assert "2 of what was asked for was not segmented" in capfd.readouterr().err
    rows = table(folder / "out/predictions.csv")
    assert sorted(row["status"] for row in rows) == ["failed", "failed", "segmented"]
    assert {row["reason"] for row in rows} == {"", "another file has its SOPInstanceUID and holds other pixels"}


# --- gates ---


def test_gates_of_one_study_get_a_row_for_their_cycle(folder, monkeypatch):
    rows = read_rows(folder / "new")
    for number, row in enumerate(rows, start=1):
        row |= {"patient_id": "N1", "gate": str(number)}
    write_rows(folder / "new", rows)
    assert door(folder, monkeypatch) == 0
    measured = table(folder / "out/measurements.csv")
    assert [row["gate"] for row in measured] == ["1", "2", "3", "4", "5", "cycle"]
    assert measured[-1]["ejection_fraction_pct"] == ""
    assert measured[-1]["why_not"] == "the cavity of 5 of 5 gates could not be measured"
    write_rows(folder / "new", rows[1:])
    assert door(folder, monkeypatch) == 0
    assert table(folder / "out/measurements.csv")[-1]["why_not"] == "only gates 2, 3, 4, 5 of the cycle are there"
    assert "does not hold this study any more" in table(folder / "out/predictions.csv")[-1]["remarks"]
