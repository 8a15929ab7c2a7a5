"""Reports, read back by highdicom and dcmtk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from derived_builders import FLAGS, MAKER, complaints, measurements, origin, shells, written
from nm_builders import NUM_GATES, changed, marked_gated_volume, marked_volume, short_axis
from pydicom import dcmread
from pydicom.dataset import Dataset

from mpi_unet.dicom.derived import NOTICE
from mpi_unet.dicom.derived_codes import QUANTITIES
from mpi_unet.dicom.report_writing import Flag, Measured, measurement_report
from mpi_unet.dicom.segmentation_writing import segmentations
from mpi_unet.errors import DicomError

highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")


def report(image: Dataset, num_gates: int) -> tuple[Dataset, tuple[Dataset, ...]]:
    where = origin(image)
    segmented = segmentations(where, shells(num_gates), MAKER)
    made = measurement_report(where, measurements(num_gates), MAKER, segmentations=segmented, flags=FLAGS)
    return made, segmented


def session_of(group: highdicom.sr.Template) -> str:
    """The gate of a group; the library writes it and has no name for it when it reads."""
    said = [item.TextValue for item in group[0].ContentSequence if item.name.meaning == "Activity Session"]
    return "".join(said)


def texts(dataset: Dataset) -> list[str]:
    return [str(element.value) for element in dataset.iterall() if element.keyword == "TextValue"]


@pytest.mark.parametrize(
    ("image", "num_gates"),
    [(marked_volume(short_axis(-6.4)), 1), (marked_gated_volume(short_axis()), NUM_GATES)],
    ids=["one volume", "gates"],
)
def test_highdicom_reads_every_measurement_back(image: Dataset, num_gates: int, tmp_path: Path) -> None:
    made, segmented = report(image, num_gates)
    (path,) = written([made], tmp_path)
    assert complaints(path) == []
    content = highdicom.sr.srread(path).content
    found: dict[tuple[str, str, str], float] = {}
    for group in [*content.get_image_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]:
        for one in group.get_measurements():
            sites = [site.value.meaning for site in one.finding_sites]
            found[str(one.name.value), session_of(group), "".join(sites)] = one.value
    gate = (lambda number: f"gate {number} of {num_gates}") if num_gates > 1 else lambda number: ""
    expected = {
        ("10230-1", "", ""): 55.1235,
        ("8821-1", "", ""): 121.0,
        ("122445", gate(1), "Apex of left ventricle"): 9.5,
    }
    for number in range(num_gates):
        expected["CAVITY_VOLUME", gate(number + 1), ""] = 50.5 + number
        expected["118565006", gate(number + 1), "Left Ventricle Myocardium"] = 90.5 + number
    assert found == expected
    references = {
        (group.referenced_segment.referenced_sop_instance_uid, group.referenced_segment.referenced_segment_numbers[0])
        for group in content.get_volumetric_roi_measurement_groups()
    }
    assert references == {(one.SOPInstanceUID, number) for one in segmented for number in (1, 2)}


def test_the_report_is_complete_preliminary_and_unverified() -> None:
    made, _ = report(marked_volume(short_axis()), 1)
    assert (made.CompletionFlag, made.PreliminaryFlag, made.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in made.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert len(evidence) == 2  # the image and its segmentation


def test_flags_and_what_is_missing_stand_in_words() -> None:
    made, _ = report(marked_volume(short_axis()), 1)
    said = texts(made)
    assert NOTICE in said
    assert "Deviation of the phase: not measured, fewer than 8 gates" in said
    assert FLAGS[1].text in said
    coded = {
        str(item.ConceptCodeSequence[0].CodeMeaning)
        for element in made.iterall()
        if element.keyword == "ContentSequence"
        for item in element.value
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeMeaning == "Quality Finding"
    }
    assert coded == {flag.text[:64] for flag in FLAGS}
    scheme = made.CodingSchemeIdentificationSequence[0]
    assert scheme.CodingSchemeDesignator == "99MPIUNET"


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_can_be_reported(quantity: str, tmp_path: Path) -> None:
    made = measurement_report(origin(marked_volume(short_axis())), [Measured(quantity, 12.0)], MAKER)
    (path,) = written([made], tmp_path)
    assert complaints(path) == []
    (group,) = highdicom.sr.srread(path).content.get_image_measurement_groups()
    (measurement,) = group.get_measurements()
    assert (measurement.value, measurement.unit.value) == (12.0, QUANTITIES[quantity].unit.value)


def test_dcmtk_shows_the_report(tmp_path: Path) -> None:
    program = shutil.which("dsrdump")
    if program is None:
        pytest.skip("needs dsrdump: apt-get install dcmtk")
    (path,) = written([report(marked_volume(short_axis()), 1)[0]], tmp_path)
    shown = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert '="55.1235" (%,UCUM,"Percent")' in shown.stdout
    assert not [line for line in shown.stderr.splitlines() if line.startswith("E:")]


def test_a_number_is_not_longer_than_a_decimal_string_may_be(tmp_path: Path) -> None:
    made = measurement_report(
        origin(marked_volume(short_axis())),
        [Measured("mass_g", 1234.56789012345), Measured("uptake_pct", 1e-17)],
        MAKER,
    )
    (path,) = written([made], tmp_path)
    values = [str(e.value) for e in dcmread(path).iterall() if e.keyword == "NumericValue"]
    assert values[0] == "1234.57"
    assert max(map(len, values)) <= 16
    assert complaints(path) == []


# --- What cannot be reported ------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once() -> None:
    where = origin(marked_gated_volume(short_axis()))
    segmented = segmentations(where, {"lv_wall": shells(NUM_GATES)["lv_wall"]}, MAKER)
    measured = [
        Measured("ejection_fraction", 50.0),
        Measured("mass_g", float("nan")),
        Measured("wall_ml", None, " "),
        Measured("wall_thickness_mm", 9.0, aha_segment=18),
        Measured("cavity_ml", 50.0, segment="lv_cavity", gate=1),
        Measured("wall_ml", 50.0, segment="lv_wall", gate=4),
    ]
    flags = [Flag("zu gro\u00df", "text"), Flag("ok", "")]
    with pytest.raises(DicomError) as caught:
        measurement_report(where, measured, MAKER, segmentations=segmented, flags=flags)
    text = str(caught.value)
    for part in (
        "'ejection_fraction' has no coded terms",
        "did you mean 'ejection_fraction_pct'",
        "mass_g is nan; expected a number, or None with why_not=",
        "wall_ml has no value and no why_not; say why",
        "aha_segment=18; expected 1 to 17",
        "cavity_ml refers to 'lv_cavity' of gate 2, of which no segmentation was given",
        "wall_ml refers to 'lv_wall' of gate 5, of which no segmentation was given",
        "expected letters, digits and underscores, and a sentence",
    ):
        assert part in text
    assert text.count("flag '") == 2


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(DicomError, match="there is neither a measurement nor a flag"):
        measurement_report(origin(marked_volume(short_axis())), [], MAKER)


def test_a_segmentation_of_another_image_is_refused() -> None:
    image = marked_volume(short_axis())
    segmented = segmentations(origin(changed(image, SOPInstanceUID="1.2.3.4")), shells(1), MAKER)
    with pytest.raises(DicomError, match=r"a segmentation refers to 1\.2\.3\.4, not to the image"):
        measurement_report(origin(image), [Measured("mass_g", 1.0)], MAKER, segmentations=segmented)
