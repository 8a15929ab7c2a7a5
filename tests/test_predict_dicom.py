"""From DICOM studies to DICOM results: every image has its objects or a reason, and they lie on the heart."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
from derived_builders import complaints
from doors import open_door
from pydicom import dcmread
from pydicom.dataset import Dataset
from served_builders import HEART, put, study_image, threshold_networks, wall_points_mm

from mpi_unet.dicom.identity import Pseudonyms, deidentified
from mpi_unet.errors import ConfigError
from mpi_unet.inference.dicom_options import DicomOptions

pytestmark = pytest.mark.long  # minutes: every test trains or talks to servers

highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")

NUM_GATES = 8
NEAR_MM = 0.01
LPS_RAS = np.array([-1.0, -1.0, 1.0])


def export_of(folder: Path, little_run: Path, *, gated: bool) -> Path:
    """Runs, and an export: slices from the feet up, from the head down, gated if asked for, views; and what is none."""
    (folder / "runs").symlink_to(little_run / "runs")
    export = folder / "export"
    put(study_image(1), export / "QUIXOTE_1" / "im1")
    put(study_image(2, negative=True), export / "QUIXOTE_2" / "im1")
    if gated:
        put(study_image(3, num_gates=NUM_GATES), export / "QUIXOTE_3" / "im1")
    put(study_image(4, kind="TOMO"), export / "QUIXOTE_4" / "im1")
    (export / "half.dcm").write_bytes((export / "QUIXOTE_1" / "im1").read_bytes()[:3000])
    (export / "README.txt").write_text("of the export")
    return folder


@pytest.fixture
def folder(little_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export without a gated study."""
    threshold_networks(monkeypatch)
    return export_of(tmp_path, little_run, gated=False)


@pytest.fixture(scope="module")
def predicted(little_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with a gated study, predicted gate by gate with everything measured; only to read."""
    folder = export_of(tmp_path_factory.mktemp("predicted"), little_run, gated=True)
    with pytest.MonkeyPatch.context() as patch:
        threshold_networks(patch)
        words = ["dicom_out=[seg,sr,sc,pdf]", "source.gates=each", "measurements=cardiac", "accept_incomplete=true"]
        assert door(folder, patch, *words) == 0
    return folder


def door(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, input: str = "export", output: str = "out") -> int:
    given = ["run=runs/train", f"input={input}", f"output={output}", "allow_other_domain=true", "pages=false"]
    given += ["measurements=volume", "num_workers=0"]
    given += ["source=dicom", f"source.key_file={folder / 'key'}", "source.domain=transaxial"]
    return open_door("predict", *given, *words, folder=folder, monkeypatch=monkeypatch)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def objects_in(output: Path) -> dict[str, dict[str, list[Dataset]]]:
    """Folder to modality to objects."""
    found: dict[str, dict[str, list[Dataset]]] = {}
    for path in sorted((output / "dicom").glob("*/*.dcm")):
        one = dcmread(path)
        found.setdefault(path.parent.name, {}).setdefault(one.Modality, []).append(one)
    return found


def pseudonym(folder: Path, patient: int) -> str:
    return Pseudonyms.from_key_file(folder / "key").patient(f"ID-{7000 + patient}")


def middle_mm(path: Path, segment: int) -> np.ndarray:
    """Center of mass of a segment in RAS, as highdicom places it."""
    volume = highdicom.seg.segread(path).get_volume(combine_segments=False)
    where = np.argwhere(np.asarray(volume.array)[..., segment - 1])
    return volume.map_indices_to_reference(where).mean(axis=0) * LPS_RAS


# --- what is made ---


def test_every_image_gets_its_objects_on_its_heart_and_every_file_its_row(predicted):
    folder = predicted
    output = folder / "out"
    assert len(rows_of(output / "cohort_private/files.csv")) == 6
    assert len(rows_of(output / "predictions.csv")) == 2 + NUM_GATES + 3
    assert {row["status"]: row["reason"] for row in rows_of(output / "dicom.csv")} == {"written": ""}
    found = objects_in(output)
    by_patient = {name.split("_")[0]: kinds for name, kinds in found.items()}
    assert set(by_patient) == {pseudonym(folder, patient) for patient in (1, 2, 3)}
    for patient, num_masks in ((1, 1), (2, 1), (3, NUM_GATES)):
        kinds = by_patient[pseudonym(folder, patient)]
        assert {kind: len(some) for kind, some in kinds.items()} == {"SEG": num_masks, "SR": 1, "OT": 2, "DOC": 1}
        assert [item.SegmentLabel for item in kinds["SEG"][0].SegmentSequence] == ["lv_wall", "lv_cavity"]
    for path in (output / "dicom").glob("*/*.dcm"):
        assert not complaints(path)
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    for patient in (1, 2):
        (path,) = [
            path
            for path in (output / "dicom").glob(f"{pseudonym(folder, patient)}*/*.dcm")
            if dcmread(path, stop_before_pixels=True).Modality == "SEG"
        ]
        assert np.abs(middle_mm(path, 1) - wall_points_mm(patient).mean(axis=0)).max() < NEAR_MM
        assert np.linalg.norm(middle_mm(path, 2) - wall_points_mm(patient).mean(axis=0)) < 15
    text = (output / "dicom.csv").read_text() + (output / "predictions.csv").read_text()
    assert "QUIXOTE" not in text.upper()
    assert "ID-700" not in text


def test_the_marked_voxels_are_the_hot_ones_in_the_frames_that_are_referred_to(predicted):
    folder = predicted
    for name, kinds in objects_in(folder / "out").items():
        patient = next(number for number in (1, 2, 3) if name.startswith(pseudonym(folder, number)))
        source = dcmread(folder / f"export/QUIXOTE_{patient}/im1").pixel_array
        for one in kinds["SEG"]:
            for frame, marked in zip(one.PerFrameFunctionalGroupsSequence, one.pixel_array, strict=True):
                if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != 1:
                    continue
                referred = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
                assert (source[int(referred) - 1][marked.astype(bool)] >= HEART).all()


def test_the_sum_of_the_gates_is_one_object_that_refers_to_all_of_them(folder, monkeypatch):
    put(study_image(3, num_gates=NUM_GATES), folder / "export/QUIXOTE_3/im1")
    assert door(folder, monkeypatch, "dicom_out=[seg,sr]", "accept_incomplete=true") == 0
    (kinds,) = [kinds for name, kinds in objects_in(folder / "out").items() if name.startswith(pseudonym(folder, 3))]
    (mask,), (report,) = kinds["SEG"], kinds["SR"]
    assert mask.ContentDescription.endswith(f"sum of {NUM_GATES} gates")
    frames = mask.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert len(frames.ReferencedFrameNumber) == NUM_GATES
    texts = [str(item.value) for item in report.iterall() if item.keyword == "TextValue"]
    assert any("Ejection fraction: not measured, the gates were summed" in text for text in texts)


def test_the_report_says_what_the_tables_say(predicted):
    folder = predicted
    numbers = {}
    for name, kinds in objects_in(folder / "out").items():
        for item in kinds["SR"][0].iterall():
            if item.keyword == "MeasuredValueSequence" and item.value:
                numbers.setdefault(name, set()).add(float(item.value[0].NumericValue))
    measured = rows_of(folder / "out/measurements.csv")
    cycle = next(row for row in measured if row["gate"] == "cycle")
    gated = next(found for name, found in numbers.items() if name.startswith(pseudonym(folder, 3)))
    assert float(cycle["ejection_fraction_pct"]) in gated
    masses = {float(row["mass_g"]) for row in measured if row["gate"].isdecimal()}
    assert len(masses) > 1
    assert masses <= gated
    ungated = next(row for row in measured if row["patient_id"] == pseudonym(folder, 1))
    first = next(found for name, found in numbers.items() if name.startswith(pseudonym(folder, 1)))
    assert {float(ungated[name]) for name in ("cavity_ml", "wall_ml", "mass_g")} <= first


def test_projections_have_no_segmentation_and_a_report_all_the_same(folder, monkeypatch, capfd):
    words = ["dicom_out=[seg,sr]", "source.domain=projection"]
    assert door(folder, monkeypatch, *words) == 2
    assert "no segmentation: the image is TOMO: its pixels are rays" in capfd.readouterr().err
    (row,) = [row for row in rows_of(folder / "out/dicom.csv") if row["status"] != "not_segmented"]
    assert (row["status"], row["kinds"], row["objects"]) == ("incomplete", "sr", "1")


# --- going on ---


def test_the_same_again_does_nothing_and_other_kinds_are_made_anew(folder, monkeypatch):
    words = ["dicom_out=[seg,sr]", "accept_incomplete=true"]
    assert door(folder, monkeypatch, *words) == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "out/dicom").glob("*/*")}
    assert door(folder, monkeypatch, *words) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out/dicom").glob("*/*")} == before
    one = next(path for path in before if path.suffix == ".dcm")
    content = one.read_bytes()
    one.unlink()
    assert door(folder, monkeypatch, *words) == 0
    assert one.read_bytes() == content
    assert door(folder, monkeypatch, "dicom_out=[sr]", "accept_incomplete=true") == 0
    assert {kind for kinds in objects_in(folder / "out").values() for kind in kinds} == {"SR"}


def test_two_predictions_of_the_same_images_give_the_same_identifiers(folder, monkeypatch):
    names = []
    for output in ("out", "again"):
        words = ["dicom_out=[seg,sr,sc,pdf]", "accept_incomplete=true"]
        assert door(folder, monkeypatch, *words, output=output) == 0
        names.append(sorted(path.name for path in (folder / output).glob("dicom/*/*.dcm")))
    assert names[0] == names[1]


def test_an_image_that_was_replaced_is_noticed_and_stops_no_other(folder, monkeypatch, capfd):
    from mpi_unet.inference import dicom_out

    inside = dicom_out.write_dicom_results

    def after_a_swap(*words, **options):
        put(study_image(9), folder / "export/QUIXOTE_1/im1")
        return inside(*words, **options)

    monkeypatch.setattr(dicom_out, "write_dicom_results", after_a_swap)
    assert door(folder, monkeypatch, "dicom_out=[sr]") == 2
    assert {row["status"] for row in rows_of(folder / "out/dicom.csv")} == {"failed", "written"}
    (row,) = [row for row in rows_of(folder / "out/dicom.csv") if row["status"] == "failed"]
    assert "is not the image that was segmented any more; expected the same SOPInstanceUID" in row["reason"]


# --- identity ---


@pytest.mark.parametrize("identity", ["pseudonymous", "source"])
def test_whose_the_objects_are(folder, monkeypatch, identity):
    words = [f"identity={identity}", "dicom_out=[seg,sr,sc,pdf]", "accept_incomplete=true"]
    assert door(folder, monkeypatch, *words) == 0
    for kinds in objects_in(folder / "out").values():
        for one in (one for some in kinds.values() for one in some):
            is_named = "QUIXOTE" in str(one).upper() or "ID-700" in str(one)
            assert is_named == (identity == "source")
            assert one.PatientID.startswith("ID-700" if identity == "source" else "P")


def test_what_is_made_of_our_own_pseudonymous_copies_carries_their_pseudonyms(folder, monkeypatch):
    keys = Pseudonyms.from_key_file(folder / "elsewhere")
    copy = deidentified(study_image(1), keys)
    put(copy, folder / "copies/one")
    assert door(folder, monkeypatch, "dicom_out=[seg,sr]", input="copies") == 0
    (kinds,) = objects_in(folder / "out").values()
    for one in (one for some in kinds.values() for one in some):
        assert (one.PatientID, one.StudyInstanceUID) == (copy.PatientID, copy.StudyInstanceUID)
    (mask,) = kinds["SEG"]
    referred = mask.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert referred == copy.SOPInstanceUID


# --- commands that cannot be ---


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dicom_out": ["seq"]}, "dicom_out: 'seq' is no kind of object; expected some of seg, sr, sc, pdf"),
        ({"identity": "sorce"}, "identity=sorce; expected pseudonymous | source; did you mean 'source'"),
        ({"send": "dicom://A@b:1", "identity": "source"}, "has nothing to send; say what, for example dicom_out"),
        ({"send": "dicom://A@b:1", "dicom_out": ["sr"]}, "needs identity=: say source to send objects back"),
        ({"send": "pacs", "dicom_out": ["sr"], "identity": "source"}, "send=pacs; expected dicom://AET@host:port"),
        ({"send": 7}, "send is 7, expected text or null"),
        ({"network": {"our_ae": "X"}}, "network.our_ae: there is no such key; did you mean 'our_aet'"),
        ({"network": {"timeout_s": 0}}, "network.timeout_s=0, network.quiet_s=30; expected more than 0"),
        ({"network": {"our_aet": 4}}, "network.our_aet is 4, expected str"),
    ],
)
def test_keys_that_cannot_be_are_refused(given, said):
    with pytest.raises(ConfigError) as caught:
        DicomOptions.of(given)
    assert said in str(caught.value)


def test_pseudonymous_objects_are_not_sent_to_the_archive_of_the_images():
    options = DicomOptions.of({"send": "dicom://A@pacs:104", "identity": "pseudonymous", "dicom_out": ["sr"]})
    options.check_input("dicom://OTHER@elsewhere:104")
    options.check_input("some/folder")
    with pytest.raises(ConfigError, match=r"nobody would find them beside the images\. Say identity=source"):
        options.check_input("dicom://A@pacs:104")


def test_a_cohort_holds_no_dicom(folder, little_run, monkeypatch, capfd):
    assert door(folder, monkeypatch, "dicom_out=[seg]", input=str(little_run / "cohort")) == 2
    assert "is a cohort, which holds none; give the folder of the DICOM files" in capfd.readouterr().err


def test_a_source_that_reads_no_dicom_has_no_objects(folder, monkeypatch, capfd):
    from mpi_unet.inference.dicom_images import DicomInput

    with pytest.raises(ConfigError, match=r"nifti_cohort reads none; use source=dicom or source=pacs"):
        DicomInput.of("x", folder / "out", {"_target_": "mpi_unet.sources.nifti.nifti_cohort"})


@pytest.mark.parametrize("serve", ["https://host/x", "dicoms://A@host:1", "somewhere"])
def test_a_place_to_listen_at_has_a_form(serve):
    with pytest.raises(ConfigError, match=r"expected dicom://OUR_TITLE@host:port"):
        DicomOptions(serve=serve).listening_at()
