"""A cohort on disk: every sentence of every CohortError is tripped by one broken cohort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cohort_builders import edit_metadata, edit_row, image_path, read_rows, write_rows, write_tiny_cohort

from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.errors import CohortError

# --- What a good cohort says ------------------------------------------------------------------------------------------


def test_opened_cohort_says_what_it_is(tiny_root: Path):
    cohort = Cohort.open(tiny_root)
    assert (cohort.name, cohort.domain, cohort.label) == ("tiny", "short_axis", "lv_wall")
    assert cohort.readers == ("truth", "A")
    assert cohort.simulated_readers
    assert cohort.spacing_known
    assert cohort.patients == ("P00", "P01", "P02", "P03", "P04", "P05")
    assert cohort.columns == ("acquisition", "gate", "camera", "sex")
    case = cohort.case("P03_rest")
    assert (case.patient_id, case.acquisition, case.gate, case.strata) == ("P03", "rest", "", {"sex": "M"})
    assert case.column("acquisition") == "rest"
    assert case.column("age") is None
    assert cohort.cases_of("P03") == (case,)
    assert cohort.cases_of("nobody") == ()
    assert case.read_image().array.shape == case.read_mask("A").shape == (4, 32, 32)
    assert case.num_frames() == 4
    cohort.check("truth")
    cohort.check("A")


def test_opening_reads_the_tables_only(tiny_root: Path):
    for path in [*tiny_root.rglob("*.nii.gz")]:
        path.unlink()
    assert len(Cohort.open(tiny_root).cases) == 6


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path):
    root = write_tiny_cohort(tmp_path, 2)
    edit_row(root, 0, patient_id="0071", sex="")
    case = Cohort.open(root).cases[0]
    assert (case.patient_id, case.strata["sex"]) == ("0071", "")


def test_spreadsheet_byte_order_mark_is_no_part_of_the_first_column(tiny_root: Path):
    text = (tiny_root / "cases.csv").read_text(encoding="utf-8")
    (tiny_root / "cases.csv").write_text(text, encoding="utf-8-sig")
    assert len(Cohort.open(tiny_root).cases) == 6


def test_excluded_cases_are_left_out(tiny_root: Path):
    image_path(tiny_root, "P01_rest").unlink()
    cohort = Cohort.open(tiny_root, exclude=["P01_rest"])
    cohort.check("truth")
    assert "P01" not in cohort.patients


def test_spacing_of_a_cohort_that_does_not_know_it_is_not_checked(tmp_path: Path):
    root = write_tiny_cohort(tmp_path, 2, domain="projection", label="lv_filled", spacing_mm=None)
    cohort = Cohort.open(root)
    assert not cohort.spacing_known
    cohort.check("truth")


def test_importing_and_opening_a_cohort_needs_no_slow_library(tiny_root: Path):
    code = (
        "import sys; from mpi_unet.cohort.table import Cohort; from mpi_unet.cohort import splits, leakage\n"
        f"Cohort.open({str(tiny_root)!r})\n"
        "assert not {'torch', 'monai', 'pandas', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- Errors of the folder and its tables ------------------------------------------------------------------------------


def test_missing_folder_has_two_remedies(tmp_path: Path):
    with pytest.raises(CohortError, match=r"data\.root=.*gone does not exist; .*data\.root=<cohort>.*data=phantom"):
        Cohort.open(tmp_path / "gone")


def test_folder_without_cohort_json(tmp_path: Path):
    with pytest.raises(CohortError, match=r"is not a cohort: it has no cohort\.json.*data=phantom"):
        Cohort.open(tmp_path)


@pytest.mark.parametrize("version", ["2.0.0", "0.9", ..., None])
def test_schema_that_is_not_understood(tiny_root: Path, version: object):
    edit_metadata(tiny_root, schema_version=version)
    said = "missing" if version is ... else version
    with pytest.raises(CohortError, match=f"schema_version is {said}; this mpi_unet reads 1.0.0; .*from its source"):
        Cohort.open(tiny_root)


def test_later_minor_schema_is_understood(tiny_root: Path):
    edit_metadata(tiny_root, schema_version="1.7.0", something_new=1)
    assert Cohort.open(tiny_root).metadata["something_new"] == 1


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_cohort_json_that_is_no_object(tiny_root: Path, text: str):
    (tiny_root / "cohort.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CohortError, match=r"cohort\.json (cannot be read|holds a list); |expected"):
        Cohort.open(tiny_root)


def test_every_wrong_key_is_named_at_once(tiny_root: Path):
    edit_metadata(tiny_root, domain="short_axes", label=..., readers=["A", "A"], spacing_known="yes", name=3)
    with pytest.raises(CohortError) as caught:
        Cohort.open(tiny_root)
    text = str(caught.value)
    assert "domain: is 'short_axes'; expected one of projection, transaxial, short_axis; did you mean" in text
    assert "label: missing; expected text" in text
    assert "readers: is ['A', 'A']; expected names, each once" in text
    assert "spacing_known: is 'yes'; expected true or false" in text
    assert "name: is 3; expected text" in text


def test_cases_csv_is_missing(tiny_root: Path):
    (tiny_root / "cases.csv").unlink()
    with pytest.raises(CohortError, match=r"cases\.csv is missing"):
        Cohort.open(tiny_root)


def test_every_missing_column_is_named_at_once(tiny_root: Path):
    rows = [
        {("patientid" if column == "patient_id" else column): value for column, value in row.items()}
        for row in read_rows(tiny_root)
    ]
    for row in rows:
        del row["gate"], row["label_A"]
        row["label_B"] = ""
    write_rows(tiny_root, rows)
    with pytest.raises(CohortError) as caught:
        Cohort.open(tiny_root)
    text = str(caught.value)
    assert "column 'patient_id' is missing; did you mean 'patientid'?" in text
    assert "column 'gate' is missing" in text
    assert "column 'label_A' is missing" in text
    assert "column 'label_B' is there, but cohort.json names no reader 'B'" in text
    assert "Expected case_id, patient_id, acquisition, gate, camera, image, label_truth, label_A" in text


def test_column_that_is_there_twice(tiny_root: Path):
    text = (tiny_root / "cases.csv").read_text().replace("sex", "gate")
    (tiny_root / "cases.csv").write_text(text)
    with pytest.raises(CohortError, match="column 'gate' is there twice"):
        Cohort.open(tiny_root)


def test_rows_that_are_too_long_or_too_short(tiny_root: Path):
    lines = (tiny_root / "cases.csv").read_text().splitlines()
    (tiny_root / "cases.csv").write_text("\n".join([lines[0], lines[1] + ",more", lines[2], "P07_rest,P07"]))
    with pytest.raises(CohortError, match="row 2, 4 has not 9 cells like the header"):
        Cohort.open(tiny_root)


def test_table_without_a_case(tiny_root: Path):
    (tiny_root / "cases.csv").write_text((tiny_root / "cases.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(CohortError, match="lists no case; expected one row a case"):
        Cohort.open(tiny_root)


def test_table_that_is_no_text(tiny_root: Path):
    (tiny_root / "cases.csv").write_bytes(b"case_id\n\xff\xfe\n")
    with pytest.raises(CohortError, match=r"cases\.csv cannot be read .*UTF-8"):
        Cohort.open(tiny_root)


def test_unknown_excluded_cases_are_all_named(tiny_root: Path):
    with pytest.raises(CohortError) as caught:
        Cohort.open(tiny_root, exclude=["P1_rest", "elsewhere", "P00_rest"])
    assert "data.exclude names 2 cases" in str(caught.value)
    assert "P1_rest: no such case; did you mean 'P" in str(caught.value)


def test_unknown_case(tiny_root: Path):
    with pytest.raises(CohortError, match=r"no case 'P03_rset' among the 6 cases .*did you mean 'P03_rest'"):
        Cohort.open(tiny_root).case("P03_rset")


def test_nothing_is_left(tiny_root: Path):
    ids = [case.case_id for case in Cohort.open(tiny_root).cases]
    with pytest.raises(CohortError, match=r"no case is left.*data\.exclude"):
        Cohort.open(tiny_root, exclude=ids).check("truth")


def test_reader_that_nobody_is(tiny_root: Path):
    with pytest.raises(CohortError, match=r"data\.reader=trut: .*readers there: truth, A; did you mean 'truth'\?"):
        Cohort.open(tiny_root).check("trut")


# --- Writing the tables -----------------------------------------------------------------------------------------------

METADATA = {
    "name": "x",
    "domain": "projection",
    "label": "lv_filled",
    "readers": ["A"],
    "simulated_readers": False,
    "source": "",
    "licence": "",
    "intensities": "counts",
    "spacing_known": False,
}


def test_written_tables_are_read_back(tmp_path: Path):
    rows = [{"case_id": "a", "patient_id": 'P,"1', "image": "images/a.nii.gz", "label_A": "l", "age": "71"}]
    write_cohort_table(tmp_path, metadata={**METADATA, "extra": 1}, rows=rows)
    cohort = Cohort.open(tmp_path)
    assert cohort.cases[0].patient_id == 'P,"1'
    assert cohort.cases[0].strata == {"age": "71"}
    assert cohort.metadata["extra"] == 1
    assert cohort.metadata["schema_version"] == "1.0.0"


def test_cohort_json_is_written_last(tmp_path: Path):
    (tmp_path / "cases.csv").mkdir()  # so that writing the table fails
    with pytest.raises(ValueError, match="cannot be written"):
        write_cohort_table(tmp_path, metadata=METADATA, rows=[{"case_id": "a"}])
    assert not (tmp_path / "cohort.json").exists()


def test_wrong_metadata_are_not_written(tmp_path: Path):
    with pytest.raises(CohortError, match=r"readers: is \[''\]; expected names, each once"):
        write_cohort_table(tmp_path, metadata={**METADATA, "readers": [""]}, rows=[])
    with pytest.raises(CohortError, match=r"column 'label_B' is there, but cohort\.json names no reader 'B'"):
        write_cohort_table(tmp_path, metadata=METADATA, rows=[{"case_id": "a", "label_B": "x"}])
    assert not list(tmp_path.iterdir())


def test_a_cohort_that_nobody_outlined_has_no_label(tmp_path: Path):
    row = {"case_id": "a", "patient_id": "P", "image": "images/a.nii.gz"}
    write_cohort_table(tmp_path, metadata={**METADATA, "readers": [], "label": ""}, rows=[row])
    cohort = Cohort.open(tmp_path)
    assert (cohort.readers, cohort.label, cohort.case("a").labels) == ((), "", {})
    with pytest.raises(CohortError, match=r"nobody of that name outlined in .*readers there: none"):
        cohort.check("A")


def test_a_label_without_a_reader_is_refused(tmp_path: Path):
    with pytest.raises(CohortError, match=r"label: is 'lv_filled'; expected '' where readers is empty"):
        write_cohort_table(tmp_path, metadata={**METADATA, "readers": [], "label": "lv_filled"}, rows=[])
    with pytest.raises(CohortError, match=r"label: is ''; expected one of lv_filled"):
        write_cohort_table(tmp_path, metadata={**METADATA, "label": ""}, rows=[])


def test_second_reads_and_facts_about_readers_name_readers(tiny_root: Path):
    edit_metadata(tiny_root, repeat_reads={"truth2": "truth"}, reader_facts={"Truth": {"years": 7}})
    with pytest.raises(CohortError) as caught:
        Cohort.open(tiny_root)
    assert "repeat_reads: names 'truth2', who is not among the readers; did you mean 'truth'?" in str(caught.value)
    assert "reader_facts: names 'Truth'" in str(caught.value)
    edit_metadata(tiny_root, repeat_reads=[], reader_facts={"truth": {"years": 7}})
    with pytest.raises(CohortError, match=r"repeat_reads: is \[\]; expected an object"):
        Cohort.open(tiny_root)
    edit_metadata(tiny_root, repeat_reads={})
    cohort = Cohort.open(tiny_root)
    assert (cohort.repeat_reads, cohort.reader_facts) == ({}, {"truth": {"years": 7}})
