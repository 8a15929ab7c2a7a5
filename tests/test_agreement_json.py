"""agreement.json: fits the published schema, gives the same bytes twice, and can be read again."""

from __future__ import annotations

import json

import jsonschema
import pytest
from cohort_builders import edit_metadata
from test_reader_study import CREATED, study, write_read_cohort

from mpi_unet.agreement.claim import TOPICS, claim_items
from mpi_unet.agreement.conclusion import conclude
from mpi_unet.agreement.schema import SCHEMA_VERSION, agreement_schema, read_agreement
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError
from mpi_unet.files import read_json, write_json
from mpi_unet.reader_study.study import newest_change

VALIDATOR = jsonschema.Draft202012Validator(agreement_schema())


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(agreement_schema())
    assert agreement_schema()["$id"].endswith(SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("changes", "predictions", "options"),
    [
        ({}, "N", {"margin": 0.02, "margin_source": "x", "margin_registered_at": "2026-01-01"}),
        ({"cases": 2, "repeats": {"A2": "A"}}, "N", {"metric": "nsd"}),
        ({}, None, {}),
        ({"readers": ("A", "N")}, "N", {}),
        ({"domain": "projection"}, "N", {"metric": "iou"}),
        ({"spacing_known": False, "simulated": True}, "N", {}),
        ({"num_patients": 1}, "N", {"margin": 0.02, "margin_source": "x"}),
    ],
)
def test_every_kind_of_study_fits_the_schema(tmp_path, changes, predictions, options):
    cohort = write_read_cohort(tmp_path / "c", **({"num_patients": 5} | changes))
    document = study(cohort, predictions, tmp_path / "out", **options)
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
    assert read_json(tmp_path / "out/agreement.json") == document
    assert document["conclusion"] == conclude(document)
    assert document["created"] == CREATED


def test_schema_refuses_a_key_that_is_not_in_it(tmp_path):
    document = study(write_read_cohort(tmp_path / "c", 4), "N", tmp_path / "out")
    assert list(VALIDATOR.iter_errors(document | {"verdict": "equivalent"}))
    document["conclusion"]["verdict"] = "as you like it"
    assert list(VALIDATOR.iter_errors(document))


def test_same_outlines_give_the_same_bytes(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 5, cases=2, repeats={"A2": "A"})
    for name in ("one", "other"):
        study(cohort, "N", tmp_path / name)
    for file in ("agreement.json", "agreement_scores.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_seed_changes_the_bootstrap_only(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 8)
    one, other = (study(cohort, "N", tmp_path / str(seed), seed=seed)["agreement"]["dice"] for seed in (1, 2))
    assert one["delta_bootstrap_t"] != other["delta_bootstrap_t"]
    assert one["ci_decision"] == other["ci_decision"]


def test_date_of_a_result_is_that_of_its_newest_file(tmp_path):
    import os

    for name, seconds in (("a", 1_700_000_000), ("b", 1_800_000_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert newest_change([tmp_path / "a", tmp_path / "b"]) == "2027-01-15T08:00:00+00:00"


def test_reading_what_evaluate_wrote(tmp_path):
    document = study(write_read_cohort(tmp_path / "c", 4), "N", tmp_path)
    assert read_agreement(tmp_path) == read_agreement(tmp_path / "agreement.json") == document
    write_json(tmp_path / "new.json", document | {"schema_version": "2.0.0"})
    with pytest.raises(AgreementError, match=r"schema_version is 2.0.0; this mpi_unet reads 1.1.0; evaluate again"):
        read_agreement(tmp_path / "new.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(AgreementError, match=r"broken.json cannot be read .*expected the agreement.json that evaluate"):
        read_agreement(tmp_path / "broken.json")
    with pytest.raises(AgreementError, match=r"there.json is missing; expected"):
        read_agreement(tmp_path / "there.json")


# --- CLAIM 2024 ---


def test_claim_lists_every_item_once(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 5, repeats={"A2": "A"})
    edit_metadata(tmp_path / "c", reader_facts={r: {"role": "physician", "years": 7, "blinded": True} for r in "ABC"})
    document = study(Cohort.open(cohort.root), "N", tmp_path / "out")
    items = document["claim"]
    assert [item["item"] for item in items] == list(range(1, 45)) == list(TOPICS)
    status = {item["item"]: item["status"] for item in items}
    answers = {item["item"]: item["answer"] for item in items}
    assert all(bool(answers[item]) == (status[item] != "open") for item in TOPICS)
    for item in (7, 12, 14, 16, 17, 18, 23, 28, 29, 30, 35, 37, 39):
        assert status[item] == "answered", item
    for item in (1, 5, 8, 21, 34, 36, 40, 44):
        assert status[item] == "open", item
    assert "role: physician; years: 7" in answers[16]
    assert "readers with one another" in answers[18]
    assert "second read, 5 patients" in answers[18]


def test_claim_without_a_network(tmp_path):
    document = study(write_read_cohort(tmp_path / "c", 4), None, tmp_path / "out")
    status = {item["item"]: item["status"] for item in document["claim"]}
    assert status[22] == status[33] == "not_applicable"
    assert status[37] == "open"


def test_what_the_caller_knows_fills_items(tmp_path):
    document = study(write_read_cohort(tmp_path / "c", 4), "N", tmp_path / "out")
    [item] = [item for item in claim_items(document, {22: "a U-Net"}) if item["item"] == 22]
    assert item["answer"] == "a U-Net"
    assert "U-Net" not in json.dumps(document["claim"])
