from __future__ import annotations

import base64
import datetime
import os
import shutil
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dicom_builders import file_bytes, nm_image
from hypothesis import given
from hypothesis import strategies as st
from identity_builders import planted
from pydicom.uid import UID, NuclearMedicineImageStorage

from mpi_unet.dicom.identity import Pseudonyms, burned_in, deidentified, identifying, patient_id_of
from mpi_unet.dicom.nm import read_nm
from mpi_unet.dicom.nm.file import open_dataset
from mpi_unet.errors import DicomError, MpiUnetError

KEYED = Pseudonyms(bytes(range(32)))
DOCS = Path(__file__).resolve().parent.parent / "docs"


# --- Pseudonyms -------------------------------------------------------------------------------------------------------


def test_pseudonyms_never_change_from_one_version_to_the_next() -> None:
    """Whoever changes one of these breaks the link between the studies of every project."""
    assert KEYED.patient("4711") == "PTCEXY62U6O"
    assert KEYED.patient("4711", "HOSPITAL A") == "P6FMZKYDGUH"
    assert KEYED.uid("1.2.840.113619.2.1") == "2.25.164866012639641094317052487888199285498"
    assert KEYED.date("4711", "20240229") == "20230208"
    assert KEYED.fingerprint == "e4928179"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl")
@given(st.text(min_size=1, max_size=20).filter(str.strip))
def test_a_patient_is_the_hmac_that_openssl_computes(patient_id: str) -> None:
    parts = [b"patient", patient_id.strip().encode("utf-8", "surrogatepass"), b""]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    key = f"hexkey:{KEYED.key.hex()}"
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", key, "-r"]
    digest = subprocess.run(command, input=message, capture_output=True, check=True).stdout.split()[0].decode()
    assert KEYED.patient(patient_id) == "P" + base64.b32encode(bytes.fromhex(digest))[:10].decode()


def test_pseudonyms_of_patients_are_safe_names_that_differ_whatever_the_case() -> None:
    names = [KEYED.patient(str(number)) for number in range(20_000)]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(len(name) == 11 and name.isalnum() and name.isascii() for name in names)


def test_another_key_gives_other_pseudonyms_and_shows_itself_by_its_fingerprint() -> None:
    other = Pseudonyms(bytes(32))
    assert other.patient("4711") != KEYED.patient("4711")
    assert other.uid("1.2.3") != KEYED.uid("1.2.3")
    assert other.fingerprint != KEYED.fingerprint
    assert KEYED.key.hex() not in repr(KEYED)
    assert "\\x" not in repr(KEYED)


def test_the_issuer_tells_patients_apart_and_the_parts_never_run_into_each_other() -> None:
    assert KEYED.patient("4711", "A") != KEYED.patient("4711")
    assert KEYED.patient("4711A", "") != KEYED.patient("4711", "A")


@pytest.mark.parametrize("ask", [KEYED.patient, KEYED.shift_days])
def test_nobody_gets_no_pseudonym(ask) -> None:
    with pytest.raises(DicomError, match=r"PatientID is empty.*leave it out"):
        ask("  ")


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(DicomError, match="has 16 bytes; expected 32"):
        Pseudonyms(bytes(16))


@given(st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,12})){2,4}", fullmatch=True))
def test_identifiers_are_valid_stable_and_within_64_characters(uid: str) -> None:
    keyed = KEYED.uid(uid)
    assert UID(keyed).is_valid
    assert len(keyed) <= 64
    assert keyed == KEYED.uid(uid + "\0") == KEYED.uid(f" {uid}")
    assert keyed.startswith("2.25.")


def test_identifiers_of_the_standard_stay_and_an_empty_one_stays_empty() -> None:
    assert KEYED.uid(NuclearMedicineImageStorage) == NuclearMedicineImageStorage
    assert KEYED.uid("") == ""


@given(st.lists(st.dates(min_value=datetime.date(1990, 1, 1)), min_size=2, max_size=6), st.integers())
def test_order_and_distance_of_a_patients_dates_stay(dates, patient) -> None:
    shifted = [KEYED.date(str(patient), f"{date:%Y}".zfill(4) + f"{date:%m%d}") for date in dates]
    numbers = [np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}") for date in shifted]
    for (one, other), (first, second) in zip(pairwise(dates), pairwise(numbers), strict=True):
        assert (other - one).days == (second - first).astype(int)
    assert -3652 <= KEYED.shift_days(str(patient)) <= -1


@pytest.mark.parametrize("date", ["", "00000000", "20240231", "yesterday", "00010101", "20240101-20240201"])
def test_an_unknown_date_stays_unknown(date: str) -> None:
    assert KEYED.date("4711", date) == ""


def test_dates_with_dots_are_dates() -> None:
    assert KEYED.date("4711", "1993.11.24") == KEYED.date("4711", "19931124") != ""


def test_dates_of_different_patients_are_shifted_differently() -> None:
    assert len({KEYED.shift_days(str(number)) for number in range(100)}) > 90


# --- The key file -----------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "config" / "mpi_unet" / "pseudonyms.key"
    first, again = Pseudonyms.from_key_file(path), Pseudonyms.from_key_file(path)
    assert first.patient("4711") == again.patient("4711")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(path.parent.iterdir()) == [path]
    assert Pseudonyms.from_key_file(tmp_path / "other.key").patient("4711") != first.patient("4711")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pseudonyms.key"
    Pseudonyms.from_key_file(path)
    path.chmod(mode)
    with pytest.raises(DicomError, match=f"has the mode {mode:04o}.*chmod 600"):
        Pseudonyms.from_key_file(path)


@pytest.mark.parametrize("content", ["", "secret", "ab" * 31, "zz" * 32])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pseudonyms.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(DicomError, match="does not hold a key; expected 64 hexadecimal digits"):
        Pseudonyms.from_key_file(path)


def test_two_processes_that_make_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "pseudonyms.key"
    program = f"from mpi_unet.dicom.identity import Pseudonyms as P; print(P.from_key_file({str(path)!r}).fingerprint)"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MpiUnetError, match="cannot be written"):
        Pseudonyms.from_key_file(tmp_path / "sub" / "pseudonyms.key")


# --- What identifies --------------------------------------------------------------------------------------------------


def test_an_image_names_the_places_that_identify_but_never_their_content() -> None:
    places = identifying(planted().dataset)
    assert "PatientName (0010,0010)" in places
    assert "DetectorInformationSequence (0054,0022)[1] > CollimatorGridName (0018,1180)" in places
    assert any(place.startswith("private (0009,1001)") for place in places)
    assert "SECRET" not in " ".join(places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stress SA FBP 64x64", []),
        ("MUSTER^HANS", ["a caret, as between the parts of a name"]),
        ("rest, Frau Muster", ["a title before a name"]),
        ("rest 2024-03-11", ["a date"]),
        ("rest 11.03.24", ["a date"]),
        ("rest 4711081", ["a number of five digits or more"]),
        ("hans@example.org", ["an address"]),
    ],
)
def test_texts_that_look_like_somebody(text: str, expected: list[str]) -> None:
    assert identifying(text) == expected


def test_whose_an_image_is() -> None:
    assert patient_id_of(nm_image(PatientID=" 4711 ")) == "4711"
    assert patient_id_of(nm_image(PatientID=...)) == ""


def test_writing_is_suspected_where_the_image_says_so_or_shows_a_screen() -> None:
    assert burned_in(nm_image()) is None
    assert "BurnedInAnnotation (0028,0301) is YES" in str(burned_in(nm_image(BurnedInAnnotation="YES")))
    assert "secondary capture" in str(burned_in(nm_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.2")))


def test_writing_is_suspected_where_a_corner_holds_letters() -> None:
    image = nm_image()
    image.Rows = image.Columns = 64
    pixels = np.random.default_rng(1).poisson(9, (5, 64, 64)).astype("<u2")
    image.PixelData = pixels.tobytes()
    assert burned_in(image) is None
    pixels[3, 2:9, 48:62:3] = 4095  # strokes of letters in the upper right corner of one slice
    image.PixelData = pixels.tobytes()
    assert "strokes" in str(burned_in(image))


def test_a_flood_and_a_hot_organ_at_the_edge_are_no_writing() -> None:
    image = nm_image()
    image.Rows = image.Columns = 64
    distance = np.hypot(*np.meshgrid(np.arange(64.0), np.arange(64.0)))
    organ = np.broadcast_to(np.clip(3000 - 100 * distance, 0, 1500), (5, 64, 64)).astype("<u2")
    image.PixelData = organ.tobytes()
    assert burned_in(image) is None
    image.PixelData = np.full((5, 64, 64), 7, "<u2").tobytes()
    assert burned_in(image) is None


REAL = Path(os.environ.get("MPI_UNET_TEST_DATA", "-")) / "nm"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs real files: set MPI_UNET_TEST_DATA")
@pytest.mark.parametrize("path", sorted(REAL.iterdir()) if REAL.is_dir() else [], ids=lambda path: path.name)
def test_real_files_lose_their_identity_and_keep_their_counts(path: Path) -> None:
    dataset = open_dataset(path, pixels=True)
    assert burned_in(dataset) is None
    copied = deidentified(dataset, KEYED, patient_id=patient_id_of(dataset) or "nobody")
    assert identifying(copied) == []
    np.testing.assert_array_equal(read_nm(copied).values, read_nm(path).values)
    assert read_nm(copied).stack == read_nm(path).stack
    assert not any(word in file_bytes(copied) for word in (b"Community", b"ACME", b"XELERIS", b"CONTROL DE", b"154\0"))
