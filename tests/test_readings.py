"""Measurements and categories of readers: how columns are named, what is refused, and the figures of a study."""

from __future__ import annotations

import jsonschema
import numpy as np
import pytest
from reading_builders import add_columns, case_ids, ejection_fractions, judgments, write_rows
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from test_reader_study import CREATED, write_read_cohort

from mpi_unet.agreement.schema import agreement_schema
from mpi_unet.cohort.readings import ReadingName, read_reading_table, reading_name
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, CohortError
from mpi_unet.reader_study.masks import network_of
from mpi_unet.reader_study.options import ReadingOptions, StudyOptions
from mpi_unet.reader_study.study import reader_study

READERS = ("A", "B", "C", "N")
SCALE = ("none", "mild", "severe")


def study(root, output, predictions="N", **readings):
    cohort = Cohort.open(root)
    network = None if predictions is None else network_of(cohort, predictions)
    options = StudyOptions(resamples=1000, num_workers=1, readings=ReadingOptions(**readings))
    mode = "readers_only" if network is None else "predictions"
    document = reader_study(output, cohort, cohort.cases, network, options, mode=mode, created=CREATED)
    jsonschema.Draft202012Validator(agreement_schema()).validate(document)
    return document


def with_ejection_fractions(root, members=("network", "A", "B", "C"), num_patients=8, cases=1, **more):
    write_read_cohort(root, num_patients, READERS, cases=cases, **more)
    values = ejection_fractions(num_patients * cases, members)
    add_columns(root, {f"ef_pct__{member}": numbers for member, numbers in values.items()})
    return values


# --- names and tables ---


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("ef_pct__A", ReadingName("ef_pct", "", "A")),
        ("ef_pct__Dr. Smith_2", ReadingName("ef_pct", "", "Dr. Smith_2")),
        ("score_seg01__A", ReadingName("score", "1", "A")),
        ("thickness_mm_seg17__network", ReadingName("thickness_mm", "17", "network")),
        ("acceptable__B__2", ReadingName("acceptable", "", "B__2")),
        ("ef pct__A", None),
        ("__A", None),
        ("ef_pct__", None),
        ("ef_pct___A", None),
        ("2nd_look__A", None),
    ],
)
def test_names_of_columns(column, expected):
    assert reading_name(column) == expected


def test_table_as_a_spreadsheet_saves_it(tmp_path):
    path = tmp_path / "ef.csv"
    path.write_bytes("\ufeffcase_id;ef_pct__A; note\nP1; 62,5 ;good\n;;\nP2;;\n".encode())
    table = read_reading_table(path)
    assert table.columns == ("ef_pct__A", "note")
    assert table.cells == {"P1": {"ef_pct__A": "62,5", "note": "good"}, "P2": {"ef_pct__A": "", "note": ""}}
    assert table.decimal_comma


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"patient,ef_pct__A\nP1,60\n", r"no column case_id in its first line \(found patient, ef_pct__A\)"),
        (b"", r"no column case_id in its first line \(found nothing\)"),
        (b"case_id,ef_pct__A,ef_pct__A\nP1,6,6\n", r"column 'ef_pct__A' is there twice; name each column once"),
        (b"case_id,ef_pct__A\nP1,60\nP1,61\n", r"P1 has more than one row; expected one row a case"),
        (b"case_id,ef_pct__A\nP1,60,7\n", r"row 2 has not 2 cells like the header"),
        (b"case_id,ef_pct__A\nP1,\xe9\n", r"is not in UTF-8 .*save it anew as CSV UTF-8"),
        (b'case_id,ef_pct__A\nP1,"60"x\n', r"cannot be read .*save it anew"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "ef.csv").write_bytes(content)
    with pytest.raises(CohortError, match=message):
        read_reading_table(tmp_path / "ef.csv")
    with pytest.raises(CohortError, match=r"none.csv cannot be read .*expected a table of readings"):
        read_reading_table(tmp_path / "none.csv")


def test_table_of_predict_has_a_row_for_the_cycle_of_a_gated_study(tmp_path):
    rows = [
        {"study_id": "P1_g1", "gate": "1", "cavity_ml": 100, "ejection_fraction_pct": ""},
        {"study_id": "P1_g1", "gate": "cycle", "cavity_ml": "", "ejection_fraction_pct": 61},
        {"study_id": "P1_g2", "gate": "2", "cavity_ml": 80, "ejection_fraction_pct": ""},
    ]
    path = write_rows(tmp_path / "measurements.csv", rows)
    table = read_reading_table(path, is_network=True)
    assert table.cells["P1_g1"] == {"gate": "1", "cavity_ml": "100", "ejection_fraction_pct": "61"}
    assert table.cells["P1_g2"]["ejection_fraction_pct"] == ""
    with pytest.raises(CohortError, match=r"no column case_id"):
        read_reading_table(path)
    write_rows(path, [rows[0], rows[0]])
    with pytest.raises(CohortError, match=r"P1_g1 has more than one row"):
        read_reading_table(path, is_network=True)


def test_network_has_no_row_for_what_it_did_not_segment(tmp_path):
    with_ejection_fractions(tmp_path / "c", ("A", "B"), num_patients=6)
    ids = case_ids(tmp_path / "c")
    own = [{"study_id": name, "ef_pct": 50 + 3 * place} for place, name in enumerate(ids[:4])]
    path = write_rows(tmp_path / "measurements.csv", [*own, {"study_id": "elsewhere", "ef_pct": 50}])
    [part] = study(tmp_path / "c", tmp_path / "out", network_table=path)["measurements"]
    assert {row["member"]: row["n_rows"] for row in part["missing"]} == {"network": 2, "A": 0, "B": 0}
    write_rows(path, [{"study_id": "elsewhere", "ef_pct": 50}])
    with pytest.raises(AgreementError, match=r"no row belongs to a case of the study, such as P00_rest"):
        study(tmp_path / "c", tmp_path / "out2", network_table=path)


def test_readings_describe_no_patient(tmp_path):
    before = write_read_cohort(tmp_path, 3, ("A", "B"))
    columns, fingerprint = before.columns, before.fingerprint("A")
    add_columns(tmp_path, {"ef_pct__A": [50, 60, 70]})
    after = Cohort.open(tmp_path)
    assert after.columns == columns
    assert after.fingerprint("A") == fingerprint
    assert after.cases[1].readings == {"ef_pct__A": "60"}


# --- measurements ---


def test_measurements_against_direct_computation(tmp_path):
    values = with_ejection_fractions(tmp_path / "c")
    document = study(tmp_path / "c", tmp_path / "out", margins={"ef_pct": 5.0})
    [part] = document["measurements"]
    assert (part["name"], part["measurement"], part["unit"]) == ("ef_pct", "EF", "%")
    first = part["pairs"][0]
    assert (first["a"], first["b"]) == ("network", "mean of readers")
    differences = values["network"] - np.mean([values[name] for name in "ABC"], axis=0)
    assert first["bias"]["value"] == pytest.approx(differences.mean())
    assert first["limits"]["low"]["value"] == pytest.approx(differences.mean() - 1.959964 * differences.std(ddof=1))
    assert first["tost"]["margin"] == 5.0
    assert first["bias_percent"] is None, "half of 60 % is no percentage of anything"
    assert [(pair["a"], pair["b"]) for pair in part["pairs"][1:]] == [
        ("network", "A"),
        ("network", "B"),
        ("network", "C"),
        ("A", "B"),
        ("A", "C"),
        ("B", "C"),
    ]
    assert part["icc"]["readers"]["ICC(A,1)"]["n"] == 8
    assert part["sem"]["value"] > 0


def test_columns_of_the_compared_reader_are_those_of_the_network(tmp_path):
    with_ejection_fractions(tmp_path / "c", ("N", "A", "B"))
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    assert list(part["readers"]) == ["network", "A", "B"]
    assert part["margin"] is None
    assert part["pairs"][0]["tost"] is None, "no margin was given"


def test_conclusion_is_the_same_with_and_without_readings(tmp_path):
    with_ejection_fractions(tmp_path / "c")
    add_columns(tmp_path / "c", {f"acceptable__{name}": ["yes", "no"] * 4 for name in ("network", "A", "B")})
    with_readings = study(tmp_path / "c", tmp_path / "out")
    cohort = Cohort.open(tmp_path / "c")
    without = reader_study(
        tmp_path / "plain",
        cohort,
        cohort.cases,
        network_of(cohort, "N"),
        StudyOptions(resamples=1000, num_workers=1),
        mode="predictions",
        created=CREATED,
    )
    assert without["measurements"] is without["categories"] is None
    assert with_readings["conclusion"] == without["conclusion"]
    assert with_readings["agreement"] == without["agreement"]


def test_missing_values_are_counted_and_pairs_use_what_there_is(tmp_path):
    values = with_ejection_fractions(tmp_path / "c")
    add_columns(tmp_path / "c", {"ef_pct__C": [None, "NA", "nan", *values["C"][3:]]})
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    assert {row["member"]: row["n_rows"] for row in part["missing"]} == {"network": 0, "A": 0, "B": 0, "C": 3}
    n = {(pair["a"], pair["b"]): pair["n"] for pair in part["pairs"]}
    assert (n["network", "A"], n["network", "C"], n["network", "mean of readers"]) == (8, 5, 5)
    assert part["icc"]["readers"]["ICC(A,1)"]["n"] == 5


def test_limits_of_agreement_are_those_of_a_single_case(tmp_path):
    with_ejection_fractions(tmp_path / "c", cases=2)
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    assert (part["n_rows"], part["n_patients"]) == (16, 8)
    assert "of single cases, patients having several" in part["pairs"][0]["limits"]["low"]["method"]
    assert len(part["pairs"][0]["points"]) == 8


def test_second_readings_give_repeatability(tmp_path):
    write_read_cohort(tmp_path / "c", 8, READERS, repeats={"A2": "A"})
    values = ejection_fractions(8, ("network", "A", "A2", "B"))
    add_columns(tmp_path / "c", {f"ef_pct__{member}": numbers for member, numbers in values.items()})
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    [repeat] = part["repeatability"]
    assert (repeat["reader"], repeat["pair"]["a"]) == ("A", "A2")
    assert repeat["pair"]["bias"]["value"] == pytest.approx((values["A2"] - values["A"]).mean())
    assert repeat["psi"]["value"] > 0
    assert "A2" not in part["readers"], "a second reading is no further reader"


def test_area_of_projections_comes_from_the_masks(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 6, domain="projection")
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    assert (part["source"], part["unit"]) == ("outlines", "mm2")
    pixel_mm2 = 3.2 * 3.2
    areas = [case.read_mask("A").sum(axis=(1, 2)).mean() * pixel_mm2 for case in cohort.cases]
    assert part["readers"]["A"]["mean"] == pytest.approx(np.mean(areas), rel=1e-4)
    unknown = write_read_cohort(tmp_path / "d", 4, domain="projection", spacing_known=False)
    assert study(unknown.root, tmp_path / "out2")["measurements"] is None


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"ef_pct__A": [50, 60, 70, 80]}, r"only A gave values: with one reader agreement is not measured"),
        ({"ef_pct__A": [50, 60, None, None], "ef_pct__B": [None, None, 50, 60]}, r"no two members measured the same 3"),
        ({"ef_pct__A": [None] * 4}, r"nobody gave a value"),
    ],
)
def test_measurements_that_cannot_be_compared_say_why(tmp_path, columns, why):
    write_read_cohort(tmp_path / "c", 4, ("A", "B", "N"))
    add_columns(tmp_path / "c", columns)
    [part] = study(tmp_path / "c", tmp_path / "out")["measurements"]
    assert not part["available"]
    assert why in part["why_not"]


# --- tables beside the cohort ---


def test_tables_beside_the_cohort_and_of_the_network(tmp_path):
    write_read_cohort(tmp_path / "c", 6, READERS)
    ids, values = case_ids(tmp_path / "c"), ejection_fractions(6, ("network", "A", "D"))
    rows = [
        {"case_id": name, "ef_pct__A": str(values["A"][place]).replace(".", ","), "ef_pct__D": values["D"][place] // 1}
        for place, name in enumerate(ids)
    ]
    rows = [row | {"ef_pct__D": str(row["ef_pct__D"]).replace(".", ",")} for row in rows]
    clinic = write_rows(tmp_path / "clinic.csv", rows, delimiter=";")
    own = [{"case_id": name, "ef_pct": values["network"][place], "volume_ml": 1} for place, name in enumerate(ids)]
    predicted = write_rows(tmp_path / "measurements.csv", own)
    document = study(
        tmp_path / "c", tmp_path / "out", tables=(clinic,), network_table=predicted, further_readers=("D",)
    )
    [part] = document["measurements"]
    assert list(part["readers"]) == ["network", "A", "D"]
    assert part["readers"]["A"]["mean"] == pytest.approx(values["A"].mean())


def test_columns_that_take_no_part_say_why(tmp_path):
    write_read_cohort(tmp_path / "c", 5, ("truth", "A", "B"), simulated=True)
    columns = {f"ef_pct__{name}": [50, 55, 60, 65, 70] for name in ("truth", "network", "A", "B")}
    add_columns(tmp_path / "c", columns)
    document = study(tmp_path / "c", tmp_path / "out", predictions=None)
    reasons = {row["column"]: row["reason"] for row in document["readings_left_out"]}
    assert reasons == {
        "ef_pct__truth": "the known truth of the phantom is no reader",
        "ef_pct__network": "no network is compared",
    }
    assert list(document["measurements"][0]["readers"]) == ["A", "B"]


# --- categories ---


def with_judgments(root, members=("network", "A", "B", "C"), num_patients=12, cases=1, scale=SCALE):
    write_read_cohort(root, num_patients, READERS, cases=cases)
    values = judgments(num_patients * cases, members, scale)
    add_columns(root, {f"severity__{member}": words for member, words in values.items()})
    return values


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_categories_against_scikit_learn(tmp_path, weights):
    values = with_judgments(tmp_path / "c")
    document = study(
        tmp_path / "c", tmp_path / "out", scales={"severity": SCALE}, ordered=("severity",), weights=weights
    )
    [part] = document["categories"]
    assert part["scale"] == list(SCALE)
    assert not part["is_clustered"]
    pair = part["pairs"][0]
    assert (pair["a"], pair["b"]) == ("network", "A")
    assert pair["table"] == confusion_matrix(values["network"], values["A"], labels=SCALE).tolist()
    expected = cohen_kappa_score(values["network"], values["A"], labels=SCALE, weights=weights)
    assert pair["cohen"]["value"] == pytest.approx(expected)
    assert pair["observed"]["value"] == pytest.approx(np.mean(np.array(values["network"]) == np.array(values["A"])))
    assert pair["observed"]["interval"]["method"] == "Clopper-Pearson over patients"
    assert [group["who"] for group in part["together"]] == ["readers", "with_network"]
    assert any(f"{weights} weights" in note for note in part["notes"])
    counts = {row["member"]: row["by_category"] for row in part["counts"]}
    assert counts["B"] == [values["B"].count(word) for word in SCALE]
    assert part["tests"] is None, "three categories and no reference"


def test_segment_scores_are_clustered_by_patient(tmp_path):
    write_read_cohort(tmp_path / "c", 10, READERS)
    for segment in range(1, 18):
        scores = judgments(10, ("network", "A", "B"), list("01234"), seed=segment)
        columns = {f"score_seg{segment:02d}__{name}": [f"{float(word)}" for word in scores[name]] for name in scores}
        add_columns(tmp_path / "c", columns)
    scale = {"score": tuple("01234")}
    [part] = study(tmp_path / "c", tmp_path / "out", scales=scale, ordered=("score",))["categories"]
    assert (part["n_rows"], part["n_patients"], part["row"]) == (170, 10, "segment of a case")
    assert part["is_clustered"]
    assert "delete-one-patient jackknife" in part["together"][0]["fleiss"]["interval"]["method"]
    assert part["pairs"][0]["n_rows"] == 170


def test_yes_and_no_are_tested_by_mcnemar(tmp_path):
    from statsmodels.stats.contingency_tables import mcnemar

    values = with_judgments(tmp_path / "c", scale=("no", "yes"), num_patients=20)
    [part] = study(tmp_path / "c", tmp_path / "out")["categories"]
    row = part["tests"]["rows"][0]
    table = confusion_matrix(values["network"], values["A"], labels=["no", "yes"])
    assert part["tests"]["category"] == "yes"
    assert (row["only_a"], row["only_b"]) == (table[1, 0], table[0, 1])
    assert row["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert row["difference"]["value"] == pytest.approx((table[1, 0] - table[0, 1]) / 20)
    assert row["p_holm"] >= row["p"]


def test_reference_reader_turns_the_test_into_one_of_agreement(tmp_path):
    values = {name: np.array(words) for name, words in with_judgments(tmp_path / "c", cases=2).items()}
    [part] = study(tmp_path / "c", tmp_path / "out", reference="A")["categories"]
    tests = part["tests"]
    assert (tests["of"], tests["reference"]) == ("reference", "A")
    assert [(row["a"], row["b"]) for row in tests["rows"]] == [("network", "B"), ("network", "C")]
    expected = (values["network"] == values["A"]).mean() - (values["B"] == values["A"]).mean()
    assert tests["rows"][0]["difference"]["value"] == pytest.approx(expected)
    assert "clustered McNemar" in tests["rows"][0]["difference"]["method"]


def test_rare_category_brings_the_sentence_about_kappa(tmp_path):
    write_read_cohort(tmp_path / "c", 20, ("A", "B", "N"))
    columns = {"defect__A": ["yes", *["no"] * 19], "defect__B": ["no", "yes", *["no"] * 18]}
    add_columns(tmp_path / "c", columns)
    [part] = study(tmp_path / "c", tmp_path / "out")["categories"]
    assert any(note.startswith("95 % of all ratings are 'no'. Where nearly everybody") for note in part["notes"])
    assert part["pairs"][0]["cohen"]["value"] < 0
    assert part["together"][0]["gwet"]["value"] > 0.85


def test_one_reader_gives_counts_and_no_agreement(tmp_path):
    with_judgments(tmp_path / "c", members=("A",))
    [part] = study(tmp_path / "c", tmp_path / "out")["categories"]
    assert sum(part["counts"][0]["by_category"]) == 12
    assert not part["available"]
    assert part["pairs"] == []
    assert "only A judged: with one reader agreement is not measured" in part["why_not"]


def test_second_judgments_give_repeatability(tmp_path):
    write_read_cohort(tmp_path / "c", 12, ("A", "N"), repeats={"A2": "A"})
    values = judgments(12, ("A", "A2"), ("no", "yes"))
    add_columns(tmp_path / "c", {f"acceptable__{name}": words for name, words in values.items()})
    [part] = study(tmp_path / "c", tmp_path / "out")["categories"]
    [repeat] = part["repeatability"]
    assert repeat["pair"]["cohen"]["value"] == pytest.approx(cohen_kappa_score(values["A2"], values["A"]))


# --- what is refused ---


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"ef_pct__Anna": [1] * 4}, {}, r"ef_pct__Anna: 'Anna' is no reader of the cohort.*further_readers=\[Anna\]"),
        ({"ef pct__A": [1] * 4}, {}, r"column 'ef pct__A' is no name of readings, expected e.g. ef_pct__A"),
        ({"ef_pct__A": [50, "sixty", 70, 80]}, {}, r"P01_rest: ef_pct by A is 'sixty', expected a number"),
        ({"ef_pct__A": [50, "62,5", 70, 80]}, {}, r"P01_rest: ef_pct by A is '62,5', expected a number"),
        ({"ef_pct__A": [50, "inf", 70, 80]}, {}, r"ef_pct by A is 'inf', expected a number"),
        ({"ok__A": ["yes", "yes", "no", "nO"]}, {}, r"ok: 'nO' and 'no' are two categories; write one of them"),
        ({"ok__A": ["yes", "yes", "yes", "ye"]}, {}, r"ok: 'ye' occurs once, a slip .*categories=\{ok: \[ye,yes\]\}"),
        ({"ok__A": ["a", "b", "a", "b"]}, {"scales": {"ok": ("a", "c")}}, r"'b' \(2 times\) is not on the scale a, c"),
        ({"size__A": ["1.5", "2.5", "3", "4"]}, {}, r"size has 4 different values such as 3, 4, 1.5.*e.g. size_ml"),
        ({"ef_pct__A": [1] * 4, "EF_pct__B": [1] * 4}, {}, r"ef_pct and EF_pct differ in the case of letters only"),
        ({"s__A": list("0101"), "s_seg01__A": list("0101")}, {}, r"s is given for the whole and for parts"),
        ({"ef_pct__N": [1] * 4, "ef_pct__network": [1] * 4}, {}, r"ef_pct: two columns hold values of the network"),
        ({"ef_pct__A": [1] * 4}, {"margins": {"ef": 5.0}}, r"measurement_margins names ef, expected one of ef_pct"),
        ({"ok__A": list("aabb")}, {"scales": {"okay": ("a", "b")}}, r"categories names okay, expected one of ok"),
        ({"ok__A": list("aabb")}, {"reference": "D"}, r"category_reference is D, expected one of A, B, C"),
        ({"ok__A": list("aabb")}, {"further_readers": ("B",)}, r"further_readers: B outlined this cohort"),
    ],
)
def test_readings_that_cannot_be_meant(tmp_path, columns, options, message):
    write_read_cohort(tmp_path / "c", 4, READERS)
    add_columns(tmp_path / "c", columns)
    with pytest.raises(AgreementError, match=r"(?s)things are wrong with the readings of .*" + message):
        study(tmp_path / "c", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists(), "nothing was scored before"


def test_everything_wrong_with_tables_is_said_at_once(tmp_path):
    write_read_cohort(tmp_path / "c", 4, READERS)
    add_columns(tmp_path / "c", {"ef_pct__A": [1, 2, 3, "x"]})
    ids = case_ids(tmp_path / "c")
    rows = [{"case_id": name, "ef_pct__A": 1, "ef_pct__B": 2} for name in [*ids[:2], "P1_rest"]]
    table = write_rows(tmp_path / "more.csv", rows)
    other = write_rows(tmp_path / "none.csv", [{"case_id": name, "remark": "x"} for name in ids])
    own = write_rows(tmp_path / "own.csv", [{"case_id": name, "edv_ml": 1} for name in ids])
    comma = [{"case_id": name, "ef_pct__C": value} for name, value in zip(ids, ["1,5", "2.5", "3", "4"], strict=True)]
    mixed = write_rows(tmp_path / "mixed.csv", comma, delimiter=";")
    with pytest.raises(AgreementError) as error:
        study(tmp_path / "c", tmp_path / "out", tables=(table, other, mixed), network_table=own)
    for expected in (
        "P03_rest: ef_pct by A is 'x'",
        "more.csv: P1_rest is no case of the cohort; did you mean",
        "more.csv: case P02_rest has no row; add it, with empty cells where nobody read",
        "more.csv: column 'ef_pct__A' stands in cases.csv, too",
        "none.csv: no column of readings among remark",
        "own.csv: no column of readings among edv_ml; expected one of ef_pct",
        "ef_pct__C: numbers with a point and with a comma",
        "(docs/cohort.md)",
    ):
        assert expected in str(error.value)


def test_table_may_hold_cases_that_are_excluded(tmp_path):
    write_read_cohort(tmp_path / "c", 5, READERS)
    ids = case_ids(tmp_path / "c")
    table = write_rows(tmp_path / "t.csv", [{"case_id": name, "ef_pct__A": 50 + i} for i, name in enumerate(ids)])
    cohort = Cohort.open(tmp_path / "c", exclude=ids[:1])
    document = reader_study(
        tmp_path / "out",
        cohort,
        cohort.cases,
        None,
        StudyOptions(resamples=1000, num_workers=1, readings=ReadingOptions(tables=(table,))),
        mode="readers_only",
        created=CREATED,
    )
    assert document["measurements"][0]["n_rows"] == 4
