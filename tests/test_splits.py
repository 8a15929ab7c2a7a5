"""Splits by patient: disjoint, complete, balanced, reproducible, and refused when they do not fit."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.splits import SIDES, Fold, Split, frame_unit, holdout_split, kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import SplitError


def a_cohort(strata: list[dict[str, str]], cases_per_patient: int = 1) -> Cohort:
    """A cohort that exists in memory only: one patient per entry of ``strata``."""
    cases = tuple(
        Case(f"P{patient:03d}_{visit}", f"P{patient:03d}", "rest", "", "", Path("none"), {}, values)
        for patient, values in enumerate(strata)
        for visit in range(cases_per_patient)
    )
    return Cohort(Path("memory"), "memory", "short_axis", "lv_wall", ("truth",), True, True, {}, cases)


def plain(num_patients: int, cases_per_patient: int = 1) -> Cohort:
    return a_cohort([{}] * num_patients, cases_per_patient)


def sides(fold: Fold) -> list[tuple[str, ...]]:
    return [getattr(fold, side) for side in SIDES]


def kfold(cohort: Cohort, num_folds: int = 5, seed: int = 7, **options) -> Split:
    return kfold_split(cohort, num_folds=num_folds, val_fraction=options.pop("val_fraction", 0.2), seed=seed, **options)


def holdout(cohort: Cohort, train: float = 0.6, val: float = 0.2, test: float = 0.2, seed: int = 7, **options) -> Split:
    return holdout_split(cohort, train=train, val=val, test=test, seed=seed, **options)


# --- Properties -------------------------------------------------------------------------------------------------------

patients = st.lists(
    st.fixed_dictionaries({"sex": st.sampled_from("FM"), "defect": st.sampled_from(["none", "apex", "wall", ""])}),
    min_size=3,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(strata=patients, num_folds=st.integers(2, 6), seed=st.integers(0, 10**6), val_fraction=st.floats(0.05, 0.6))
def test_kfold_is_disjoint_complete_balanced_and_tests_everyone_once(strata, num_folds, seed, val_fraction):
    cohort = a_cohort(strata, cases_per_patient=2)
    if len(strata) < num_folds or len(strata) - -(-len(strata) // num_folds) < 2:
        with pytest.raises(SplitError, match="split=holdout"):
            kfold(cohort, num_folds, seed)
        return
    split = kfold(cohort, num_folds, seed, val_fraction=val_fraction, stratify_by=["sex", "defect"])
    split.verify(cohort)
    assert len(split.folds) == num_folds
    for fold in split.folds:
        assert all(sides(fold))
        assert sorted(patient for side in sides(fold) for patient in side) == list(cohort.patients)
    sizes = [len(fold.test) for fold in split.folds]
    assert max(sizes) - min(sizes) <= 1
    stratum_of = {f"P{number:03d}": (values["sex"], values["defect"]) for number, values in enumerate(strata)}
    for stratum, first in [(s, None) for s in set(stratum_of.values())] + [(None, sex) for sex in "FM"]:
        members = {p for p, s in stratum_of.items() if s == stratum or (first is not None and s[0] == first)}
        counts = [len(members & set(fold.test)) for fold in split.folds]
        assert max(counts) - min(counts) <= 1


@settings(deadline=None, max_examples=60)
@given(strata=patients, seed=st.integers(0, 10**6), val=st.floats(0.01, 0.45), test=st.floats(0.01, 0.45))
def test_holdout_is_disjoint_complete_and_of_the_size_asked_for(strata, seed, val, test):
    cohort = a_cohort(strata)
    split = holdout(cohort, 1 - val - test, val, test, seed, stratify_by=["sex", "defect"])
    split.verify(cohort)
    (fold,) = split.folds
    assert sorted(patient for side in sides(fold) for patient in side) == list(cohort.patients)
    assert all(sides(fold))
    for side, fraction in (("val", val), ("test", test)):
        wanted = fraction * len(strata)
        assert abs(len(getattr(fold, side)) - wanted) <= 0.5 + 1e-9 or len(getattr(fold, side)) == 1 or len(strata) < 6
    stratum_of = {f"P{number:03d}": (values["sex"], values["defect"]) for number, values in enumerate(strata)}
    for stratum, number in Counter(stratum_of.values()).items():
        share = number * len(fold.test) / len(strata)
        assert abs(sum(stratum_of[patient] == stratum for patient in fold.test) - share) < 1 + 1e-9


@settings(deadline=None, max_examples=30)
@given(strata=patients.filter(lambda strata: len(strata) >= 8), seed=st.integers(0, 100), data=st.data())
def test_same_seed_gives_the_same_folds_whatever_the_order_of_rows(strata, seed, data):
    cohort = a_cohort(strata, cases_per_patient=2)
    shuffled = replace(cohort, cases=tuple(data.draw(st.permutations(cohort.cases))))
    options = {"seed": seed, "stratify_by": ["sex"]}
    assert kfold(cohort, **options) == kfold(shuffled, **options)
    assert holdout(cohort, **options) == holdout(shuffled, **options)


def test_other_seeds_give_other_folds():
    cohort = plain(20)
    assert len({kfold(cohort, seed=seed).folds for seed in range(20)}) == 20
    assert len({holdout(cohort, seed=seed).folds for seed in range(20)}) == 20


def test_folds_of_a_seed_never_change():
    """Splits are quoted in papers: this pins them across versions of mpi_unet, Python and numpy."""
    split = kfold(plain(7), num_folds=3, seed=7)
    assert [fold.test for fold in split.folds] == PINNED_TESTS
    assert [fold.val for fold in split.folds] == PINNED_VALS


PINNED_TESTS = [("P002", "P003", "P004"), ("P000", "P005"), ("P001", "P006")]
PINNED_VALS = [("P006",), ("P001",), ("P005",)]


def test_every_patient_is_as_likely_to_be_tested_as_any_other():
    cohort, num_seeds = plain(20), 400
    tested = Counter(patient for seed in range(num_seeds) for patient in holdout(cohort, seed=seed).folds[0].test)
    expected = num_seeds * 4 / 20
    chi_square = sum((tested[patient] - expected) ** 2 / expected for patient in cohort.patients)
    assert chi_square < 43.8  # 99.9 % point at 19 degrees of freedom


# --- Stratification ---------------------------------------------------------------------------------------------------


def test_strata_are_spread_by_hand():
    """Ten with and five without a defect: each of five folds tests two of the one kind and one of the other."""
    cohort = a_cohort([{"defect": "yes"}] * 10 + [{"defect": "no"}] * 5)
    for fold in kfold(cohort, stratify_by=["defect"]).folds:
        assert Counter(patient < "P010" for patient in fold.test) == {True: 2, False: 1}
        assert sum(patient < "P010" for patient in fold.val) in (1, 2)


def test_rare_strata_are_no_error():
    cohort = a_cohort([{"defect": name} for name in "aaaaaaaabcde"])
    split = kfold(cohort, num_folds=4, stratify_by=["defect"])
    assert [len(fold.test) for fold in split.folds] == [3, 3, 3, 3]
    rare = [sum(patient >= "P008" for patient in fold.test) for fold in split.folds]
    assert rare == [1, 1, 1, 1]
    assert "5 strata" in split.note


@pytest.mark.parametrize("seed", range(5))
def test_balance_is_no_worse_than_that_of_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    defects = rng.choice(["none", "lad", "rca", "lcx"], 83, p=[0.5, 0.25, 0.15, 0.1])
    cohort = a_cohort([{"defect": str(defect)} for defect in defects])

    def imbalance(tests: list[set[int]]) -> int:
        counts = [[sum(defects[number] == name for number in test) for test in tests] for name in set(defects)]
        return sum(max(count) - min(count) for count in counts)

    ours = [{int(patient[1:]) for patient in fold.test} for fold in kfold(cohort, stratify_by=["defect"]).folds]
    theirs = StratifiedKFold(5, shuffle=True, random_state=seed).split(np.zeros(83), defects)
    assert imbalance(ours) <= imbalance([set(map(int, test)) for _, test in theirs])


def test_stratum_of_a_patient_joins_all_cases():
    cohort = a_cohort([{}] * 8, cases_per_patient=2)
    mixed = tuple(
        replace(case, acquisition="stress") if index % 2 and index < 8 else case
        for index, case in enumerate(cohort.cases)
    )
    split = kfold(replace(cohort, cases=mixed), num_folds=2, stratify_by=["acquisition"])
    assert "2 strata" in split.note  # rest only, and rest+stress
    for fold in split.folds:
        assert sum(patient < "P004" for patient in fold.test) == 2


def test_columns_that_the_cohort_lacks_are_left_out_and_said():
    cohort = a_cohort([{"sex": "F"}, {"sex": "M"}] * 5)
    split = kfold(cohort, stratify_by=["sex", "defect", "sex"])
    assert split.stratify_by == ("sex",)
    assert split.note == (
        "Patients were drawn. Stratified by sex (2 strata). Not in cases.csv and so not used: defect."
    )
    assert kfold(cohort).note == "Patients were drawn."


# --- Single images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [kfold, holdout])
def test_images_are_drawn_one_by_one(tiny_cohort: Cohort, draw):
    split = draw(tiny_cohort, unit="image", stratify_by=["sex"])
    split.verify(tiny_cohort)
    units = {frame_unit(case.case_id, frame) for case in tiny_cohort.cases for frame in range(4)}
    for fold in split.folds:
        assert {unit for side in sides(fold) for unit in side} == units
    assert "Single images were drawn, not patients" in split.note
    case = tiny_cohort.cases[2]
    found = {split.side_of(0, case, frame) for frame in range(4)}
    assert found <= set(SIDES)
    assert split.side_of(0, case, 99) is None


def test_side_of_a_patient(tiny_cohort: Cohort):
    split = kfold(tiny_cohort, num_folds=3)
    for number, fold in enumerate(split.folds):
        for case in tiny_cohort.cases:
            side = split.side_of(number, case, 0)
            assert side is not None
            assert case.patient_id in getattr(fold, side)
    stranger = replace(tiny_cohort.cases[0], patient_id="stranger")
    assert split.side_of(0, stranger) is None


# --- What cannot be drawn ---------------------------------------------------------------------------------------------


def test_fewer_patients_than_folds():
    with pytest.raises(SplitError, match=r"4 patients cannot make 5 folds .* split\.num_folds=4, or split=holdout"):
        kfold(plain(4, cases_per_patient=3), num_folds=5)


def test_no_room_for_validation():
    with pytest.raises(SplitError, match=r"3 patients cannot make 2 folds .* split\.num_folds=3, or split=holdout"):
        kfold(plain(3), num_folds=2)
    assert len(kfold(plain(3), num_folds=3).folds) == 3


@pytest.mark.parametrize("num_patients", [1, 2])
def test_too_few_patients_for_any_split(num_patients: int):
    with pytest.raises(SplitError, match=f"{num_patients} patients cannot make 2 folds .*give a cohort of 3 patients"):
        kfold(plain(num_patients), num_folds=2)
    with pytest.raises(SplitError, match=f"{num_patients} patients cannot be divided .*data=phantom"):
        holdout(plain(num_patients))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_folds": 1}, r"split\.num_folds is 1; expected an integer of 2 or more"),
        ({"val_fraction": 0.0}, r"split\.val_fraction is 0\.0; expected a fraction between 0 and 1"),
        ({"val_fraction": 1.5}, r"split\.val_fraction is 1\.5"),
    ],
)
def test_kfold_arguments_off_their_range(options: dict, sentence: str):
    with pytest.raises(SplitError, match=sentence):
        kfold(plain(10), **options)


@pytest.mark.parametrize(
    ("fractions", "sentence"),
    [
        ((0.6, 0.2, 0.3), r"sum to 1\.1; expected 1; for example split\.train=0\.5"),
        ((0.6, 0.0, 0.4), r"split\.val is 0\.0; expected a fraction between 0 and 1"),
        ((0.8, 0.2, -0.1), r"split\.test is -0\.1"),
        ((0.2, 0.8, 0.8), r"split\.train=0\.2, split\.val=0\.8 and split\.test=0\.8 sum to 1\.8; expected 1"),
    ],
)
def test_holdout_fractions_that_are_none(fractions: tuple[float, float, float], sentence: str):
    with pytest.raises(SplitError, match=sentence):
        holdout(plain(10), *fractions)


# --- Frozen in a file -------------------------------------------------------------------------------------------------


def frozen(tmp_path: Path, cohort: Cohort) -> tuple[Path, dict]:
    path = tmp_path / "splits.json"
    kfold(cohort, num_folds=3, fingerprint="a" * 64, stratify_by=["sex"]).write(path)
    return path, json.loads(path.read_text())


def test_split_is_read_back_as_it_was(tmp_path: Path, tiny_cohort: Cohort):
    path, content = frozen(tmp_path, tiny_cohort)
    split = Split.read(path, "a" * 64, tiny_cohort)
    assert split == kfold(tiny_cohort, num_folds=3, fingerprint="a" * 64, stratify_by=["sex"])
    assert Split.read(path) == split
    assert content["schema_version"] == "1.0.0"
    assert list(content["folds"][0]) == ["train", "val", "test"]
    before = path.read_bytes()
    split.write(path)
    assert path.read_bytes() == before


def test_other_fingerprint_is_refused_with_both(tmp_path: Path, tiny_cohort: Cohort):
    path, _ = frozen(tmp_path, tiny_cohort)
    with pytest.raises(SplitError, match=r"fingerprint aaaaaaaaaaaa, the cohort in use has bbbbbbbbbbbb: .*remove spl"):
        Split.read(path, "b" * 64)


def test_other_patients_are_all_named(tmp_path: Path, tiny_cohort: Cohort):
    path, _ = frozen(tmp_path, tiny_cohort)
    renamed = replace(tiny_cohort, cases=(replace(tiny_cohort.cases[0], patient_id="new"), *tiny_cohort.cases[2:]))
    with pytest.raises(SplitError) as caught:
        Split.read(path, cohort=renamed)
    text = str(caught.value)
    for patient, what in (("P00", "is not in the cohort"), ("P01", "is not in the cohort"), ("new", "is on no side")):
        assert text.count(f"patient {patient} {what}") == 3


def test_contradictions_are_all_named(tmp_path: Path, tiny_cohort: Cohort):
    path, content = frozen(tmp_path, tiny_cohort)
    moved = content["folds"][0]["train"][0]
    content["folds"][0]["val"] = [moved]
    content["folds"][1]["test"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError) as caught:
        Split.read(path)
    text = str(caught.value)
    assert f"fold 0: patient {moved} is in train and val; expected one side" in text
    assert "fold 1: no patient is in test; expected at least one" in text
    assert "is tested in 0 folds; expected exactly one" in text
    assert text.splitlines()[-1].startswith("Correct it, or remove splits.json")


def test_verify_names_the_cohort(tiny_cohort: Cohort):
    split = holdout(tiny_cohort)
    short = replace(split, folds=(replace(split.folds[0], train=split.folds[0].train[1:]),))
    with pytest.raises(SplitError, match=f"does not fit .*tiny:\n  fold 0: patient {split.folds[0].train[0]} is on no"):
        short.verify(tiny_cohort)
    with pytest.raises(SplitError, match="there is no fold; expected at least one"):
        replace(split, folds=()).verify(tiny_cohort)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema_version": "2.0.0"}, r"schema_version is 2\.0\.0; this mpi_unet reads 1\.0\.0"),
        ({"strategy": "loo"}, "strategy is 'loo'; expected holdout or kfold"),
        ({"unit": "slice"}, "unit is 'slice'; expected patient or image"),
        ({"seed": "x"}, "is no split: invalid literal"),
        ({"folds": [{"train": "P00", "val": [], "test": []}]}, "train holds 'P00'; expected a list of ids"),
        ({"folds": [{"train": [1], "val": [], "test": []}]}, r"train holds \[1\]; expected a list of ids"),
        ({"folds": [{"train": []}]}, "key 'val' is missing"),
        ({"stratify_by": None}, "stratify_by holds None; expected a list"),
    ],
)
def test_file_that_is_no_split(tmp_path: Path, tiny_cohort: Cohort, change: dict, sentence: str):
    path, content = frozen(tmp_path, tiny_cohort)
    path.write_text(json.dumps(content | change))
    with pytest.raises(SplitError, match=sentence):
        Split.read(path)


def test_file_that_is_missing_or_no_json(tmp_path: Path):
    with pytest.raises(SplitError, match=r"is missing; expected the splits\.json of a run"):
        Split.read(tmp_path / "splits.json")
    (tmp_path / "splits.json").write_text("{")
    with pytest.raises(SplitError, match="cannot be read"):
        Split.read(tmp_path / "splits.json")


def test_image_split_of_a_cohort_on_disk_is_verified(tmp_path: Path):
    cohort = Cohort.open(write_tiny_cohort(tmp_path, 3))
    split = holdout(cohort, unit="image")
    fewer = Cohort.open(tmp_path, exclude=["P00_rest"])
    with pytest.raises(SplitError, match="image P00_rest#0 is not in the cohort"):
        split.verify(fewer)
