"""Rest, stress, planes and corrections told from descriptions and headers."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import yaml
from dicom_builders import nm_image, put
from pydicom import Dataset

from mpi_unet.config import config_dir
from mpi_unet.errors import CohortError
from mpi_unet.sources.dicom.recognition import Recognized, recognized
from mpi_unet.sources.dicom.scan import Header, scan_file
from mpi_unet.sources.dicom.words import PATTERNS, check_patterns, names_in, plain_words


def header_of(image: Dataset, folder: Path) -> Header:
    scanned = scan_file(put(image, folder / "image"), "image")
    assert scanned.header is not None, scanned.reason
    return scanned.header


def seen(folder: Path, name: str, **changes: object) -> Recognized:
    """What is recognized of an image without codes, by its series description and what else is given."""
    return recognized(header_of(nm_image(name=name, coded=False, **changes), folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # English
        ("SPECT MPI Rest", "rest"),
        ("RESTING GATED", "rest"),
        ("ReconRest", "rest"),
        ("Stress SA AC", "stress"),
        ("STRESS_EM_OSEM", "stress"),
        ("StressGated1", "stress"),
        ("post-stress gated", "stress"),
        ("exercise treadmill Bruce", "stress"),
        ("Adenosine SPECT", "stress"),
        ("Regadenoson", "stress"),
        ("dobutamine", "stress"),
        ("SGATE", "stress"),
        ("RGATE", "rest"),
        # German
        ("Myokard Ruhe", "rest"),
        ("MPS Ruheaufnahme", "rest"),
        ("Belastung kurze Achse", "stress"),
        ("Belastungsaufnahme Ergometrie", "stress"),
        ("MYOKARD IN RUHE", "rest"),
        # French
        ("Tomo repos", "rest"),
        ("Tomo \xe0 l'effort", "stress"),
        ("dipyridamole", "stress"),
        # Spanish
        ("Miocardio reposo", "rest"),
        ("Miocardio esfuerzo", "stress"),
        ("dipiridamol", "stress"),
        # Italian
        ("miocardio a riposo", "rest"),
        ("da sforzo", "stress"),
        # nothing, both, or a denial
        ("restored", ""),
        ("Series 2", ""),
        ("arrest", ""),
        ("rest-stress difference", ""),
        ("Stress/Rest", ""),
        ("no stress", ""),
        ("ohne Belastung", ""),
        ("pre-stress", ""),
        ("sans effort", ""),
        # another acquisition
        ("Redistribution 4h", "redistribution"),
    ],
)
def test_rest_and_stress_by_one_description(tmp_path: Path, text: str, expected: str) -> None:
    assert seen(tmp_path, text).acquisition == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "SA", "ProtocolName": "One day REST/STRESS"}, ""),
        ({"name": "SA", "ProtocolName": "Two day stress"}, "stress"),
        ({"name": "Rest SA", "ProtocolName": "One day REST/STRESS"}, "rest"),
        ({"name": "Rest SA", "StudyDescription": "MPI stress"}, ""),
        ({"name": "Rest SA", "ImageID": "SGATE"}, ""),
        ({"name": "rest-stress difference", "StudyDescription": "MPI stress"}, ""),
        ({"name": "SA", "StudyDescription": "Myokardszintigraphie in Ruhe"}, "rest"),
    ],
)
def test_contradictions_are_unknown_and_studies_that_name_both_say_nothing(tmp_path, changes, expected) -> None:
    assert seen(tmp_path, **changes).acquisition == expected


def test_the_code_and_the_drug_count(tmp_path: Path) -> None:
    assert recognized(header_of(nm_image(study="rest", name="SA"), tmp_path)).acquisition == "rest"
    assert recognized(header_of(nm_image(study="stress", name="SA"), tmp_path)).acquisition == "stress"
    assert recognized(header_of(nm_image(study="stress", name="Ruhe"), tmp_path)).acquisition == ""
    drug = Dataset()
    drug.InterventionDrugName = "Regadenoson 0.4 mg"
    assert seen(tmp_path, "SA", InterventionDrugInformationSequence=[drug]).acquisition == "stress"


@pytest.mark.parametrize(
    ("text", "oblique", "expected"),
    [
        ("Stress TRA", False, "transaxial"),
        ("Transaxial", False, "transaxial"),
        ("Transversal OSEM", False, "transaxial"),
        ("Series 2", False, "transaxial"),
        ("Stress SA", True, "short_axis"),
        ("STRESS_SAX_AC", True, "short_axis"),
        ("Short Axis", True, "short_axis"),
        ("kurze Achse", True, "short_axis"),
        ("Kurzachse", True, "short_axis"),
        ("petit axe", True, "short_axis"),
        ("eje corto", True, "short_axis"),
        ("asse corto", True, "short_axis"),
        ("Reoriented short axis", True, "short_axis"),
        ("H Long Ax", True, ""),
        ("VLA", True, ""),
        ("HLA stress", True, ""),
        ("Coronal", False, ""),
        ("Reor OK", False, ""),
        ("SA and VLA", True, ""),
        ("Series 2", True, ""),
        ("Transaxial", True, ""),
    ],
)
def test_planes(tmp_path: Path, text: str, oblique: bool, expected: str) -> None:
    found = seen(tmp_path, text, oblique=oblique)
    assert found.domain == expected
    assert bool(found.reason) == (expected == "")


@pytest.mark.parametrize(
    ("text", "oblique", "reason"),
    [
        ("H Long Ax", True, "horizontal long axis slices"),
        ("Reor OK", False, "reoriented, and nothing says along which axis.*source.plane"),
        ("Series 2", True, "oblique and nothing says along which axis.*source.plane"),
        ("Transaxial", True, "called transaxial, but its slices are oblique.*source.plane"),
        ("SA VLA", True, "name several planes.*source.plane"),
    ],
)
def test_reasons_say_what_to_do_about_a_plane(tmp_path, text, oblique, reason) -> None:
    assert re.search(reason, seen(tmp_path, text, oblique=oblique).reason)


def test_a_short_axis_along_the_body_axes_is_taken_with_a_remark(tmp_path: Path) -> None:
    found = seen(tmp_path, "SA", oblique=False)
    assert found.domain == "short_axis"
    assert "its place in the body is not right" in found.warning


def test_the_code_of_the_view_counts(tmp_path: Path) -> None:
    assert recognized(header_of(nm_image(plane="short_axis", name="Series 2"), tmp_path)).domain == "short_axis"
    contradicting = nm_image(plane="short_axis", name="transaxial")
    assert recognized(header_of(contradicting, tmp_path)).domain == ""


def test_the_user_may_say_what_reconstructions_cut(tmp_path: Path) -> None:
    header = header_of(nm_image(name="Reor OK", coded=False), tmp_path)
    assert recognized(header, plane="short_axis").domain == "short_axis"
    projections = header_of(nm_image("TOMO", name="raw"), tmp_path)
    assert recognized(projections, plane="short_axis").domain == "projection"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stress SA", ""),
        ("Stress AC", "yes"),
        ("StressIRAC", "yes"),
        ("CTAC", "yes"),
        ("JASZCZAK[ATTC]", "yes"),
        ("attenuation corrected", "yes"),
        ("schw\xe4chungskorrigiert", "yes"),
        ("Stress NAC", "no"),
        ("Stress_NC", "no"),
        ("StressNoAC", "no"),
        ("non-AC", "no"),
        ("uncorrected", "no"),
        ("IRNC", "no"),
        ("not attenuation corrected", "no"),
        ("ohne Schw\xe4chungskorrektur", "no"),
        ("AC and NAC", ""),
    ],
)
def test_attenuation_correction_by_its_description(tmp_path: Path, text: str, expected: str) -> None:
    assert seen(tmp_path, text).attenuation_corrected == expected


def test_attenuation_correction_by_the_header(tmp_path: Path) -> None:
    assert seen(tmp_path, "Stress", CorrectedImage=["UNIF", "ATTN"]).attenuation_corrected == "yes"
    assert seen(tmp_path, "Stress", CorrectedImage=["UNIF"]).attenuation_corrected == ""
    assert seen(tmp_path, "Stress NAC", CorrectedImage=["ATTN"]).attenuation_corrected == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "MuMap"}, "an attenuation map by its description"),
        ({"name": "CT attenuation map"}, "an attenuation map by its description"),
        ({"name": "Bone SPECT", "BodyPartExamined": ""}, "another part of the body"),
        ({"name": "Knochen", "BodyPartExamined": ""}, "another part of the body"),
        ({"name": "SPECT", "BodyPartExamined": "SKULL"}, "another part of the body"),
        ({"name": "SPECT", "BodyPartExamined": "HEART"}, ""),
        ({"name": "SPECT", "BodyPartExamined": ""}, ""),
        ({"name": "Herz", "BodyPartExamined": "THORAX"}, ""),
        ({"name": "MIBI lung heart ratio", "BodyPartExamined": ""}, ""),
    ],
)
def test_what_is_no_heart_is_left_out(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    assert seen(tmp_path, **changes).reason == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Lung perfusion", "BodyPartExamined": "CHEST", "StudyDescription": "V/Q SPECT"}, True),
        ({"name": "Perfusion", "BodyPartExamined": "CHEST", "StudyDescription": "V/Q SPECT"}, True),
        ({"name": "Ventilation", "BodyPartExamined": "THORAX"}, True),
        ({"name": "Lungenszintigraphie", "BodyPartExamined": ""}, True),
        ({"name": "Bone", "BodyPartExamined": "THORAX"}, True),
        ({"name": "Parathyroid MIBI SPECT", "BodyPartExamined": "NECK"}, True),
        ({"name": "Parathyroid MIBI SPECT", "BodyPartExamined": ""}, True),
        ({"name": "Parathyroid Myoview", "BodyPartExamined": ""}, True),
        ({"name": "Parathyroid Cardiolite", "BodyPartExamined": ""}, True),
        ({"name": "MIBI SPECT", "BodyPartExamined": "NECK"}, True),
        ({"name": "MIBI Stress", "BodyPartExamined": ""}, False),
        ({"name": "MIBI Stress", "BodyPartExamined": "CHEST"}, False),
        ({"name": "Stress", "BodyPartExamined": "THORAX"}, False),
        ({"name": "Cardiac MIBI", "BodyPartExamined": "THORAX"}, False),
        ({"name": "Myocardial perfusion, lung uptake", "BodyPartExamined": "CHEST"}, False),
    ],
)
def test_the_chest_and_tracers_do_not_name_the_heart(tmp_path: Path, changes: dict[str, str], reason: bool) -> None:
    assert seen(tmp_path, **changes).reason == ("another part of the body" if reason else "")


def test_long_texts_are_cut_before_they_are_searched(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom knows that they are too long
        image = nm_image(name="word " * 5000, StudyDescription="word\\" * 9000)
        header = header_of(image, tmp_path)
    assert max(map(len, header.texts.values())) == 1024


def test_words_are_found_whole_and_the_longer_one_counts() -> None:
    assert plain_words("STRESS_SA-2 (Schw\xe4chung)") == "stress sa 2 schwachung"
    assert names_in("no ac", {"yes": ["ac"], "no": ["no ac"]}) == {"no"}
    assert names_in("rest1", {"rest": ["rest"]}) == {"rest"}
    assert names_in("", {"rest": ["rest"]}) == set()


def test_patterns_of_the_user_replace_a_table(tmp_path: Path) -> None:
    header = header_of(nm_image(name="Zustand B", coded=False), tmp_path)
    patterns = {"acquisition": {"rest": ["zustand a"], "stress": ["zustand b"]}}
    assert recognized(header, patterns).acquisition == "stress"


def test_wrong_patterns_are_all_named() -> None:
    with pytest.raises(CohortError) as caught:
        check_patterns({"acquisitions": {}, "acquisition": {"rest": ["("]}})
    assert "source.patterns.acquisitions: no such table; there are acquisition, plane" in str(caught.value)
    assert "source.patterns.acquisition.rest: '(' is no regular expression" in str(caught.value)


def test_the_table_of_the_config_is_the_one_of_the_code() -> None:
    config = yaml.safe_load((config_dir() / "source" / "dicom.yaml").read_text(encoding="utf-8"))
    assert config["patterns"] == {
        table: {name: list(patterns) for name, patterns in names.items()} for table, names in PATTERNS.items()
    }
