"""The run folder: begun, continued, refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, TINY, open_door
from omegaconf import OmegaConf

from mpi_unet.errors import RunError
from mpi_unet.files import read_json, sha256, whole_file, write_json, write_text
from mpi_unet.run import Run, enter_run, note_in_environment, refuse_other_recipe


def recipe(folder, **changes):
    config = {
        "name": "a",
        "runs_dir": str(folder),
        "overwrite": False,
        "seed": 1,
        "split": {"num_folds": 5, "fold": None},
        "trainer": {"max_epochs": 3, "devices": 1},
    }
    return OmegaConf.merge(OmegaConf.create(config), OmegaConf.create(changes))


def test_run_records_recipe_versions_and_command(tmp_path):
    run = enter_run(recipe(tmp_path), ["seed=1"], "python -m mpi_unet.train seed=1")
    environment = read_json(run.environment)
    assert run.read_config().trainer.max_epochs == 3
    assert environment["command"] == "python -m mpi_unet.train seed=1"
    assert environment["torch"].startswith("2.")
    assert environment["seed"] == 1
    note_in_environment(run, device="CPU")
    assert read_json(run.environment)["device"] == "CPU"
    assert read_json(run.environment)["seed"] == 1


def test_same_recipe_goes_on_and_keys_of_place_may_differ(tmp_path):
    enter_run(recipe(tmp_path), [], "")
    enter_run(recipe(tmp_path, split={"fold": 2}, trainer={"accelerator": "gpu"}), [], "")


def test_other_recipe_is_refused_with_every_key_that_differs(tmp_path):
    write_text(enter_run(recipe(tmp_path), [], "").splits, "{}")
    with pytest.raises(
        RunError, match=r"(?s)seed was 1, is now 2.*trainer.max_epochs was 3, is now 9.*name=.*overwrite"
    ):
        enter_run(recipe(tmp_path, seed=2, trainer={"max_epochs": 9}), [], "")


def test_other_recipe_takes_the_place_of_one_that_came_to_nothing(tmp_path):
    first = enter_run(recipe(tmp_path), [], "")
    write_text(first.folder / "log.txt", "the data could not be used")
    assert enter_run(recipe(tmp_path, seed=2), [], "").read_config().seed == 2
    with pytest.raises(RunError, match=r"(?s)seed was 2, is now 1.*name="):
        refuse_other_recipe(first, recipe(tmp_path))


def test_remedy_of_a_refused_start_is_accepted_and_a_recipe_replaced_meanwhile_is_not(tmp_path, monkeypatch, capfd):
    write_tiny_cohort(tmp_path / "cohort", 6)
    words = [*TINY, "data=cohort", "data.root=cohort", "data.reader=truth"]
    assert open_door("train", *words, "split.num_folds=9", folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "6 patients cannot make 9 folds" in capfd.readouterr().err
    run = Run(tmp_path / "runs/train")

    def as_another_command(*_) -> None:
        write_text(run.config, run.config.read_text().replace("lr: 0.003", "lr: 0.5"))

    monkeypatch.setattr("mpi_unet.crossvalidation.audit", as_another_command)
    assert open_door("train", *words, "split.num_folds=3", folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert "optimizer.lr was 0.5, is now 0.003" in said
    assert "num_folds" not in said
    assert not run.splits.exists()


def test_overwrite_throws_the_old_run_away(tmp_path):
    run = enter_run(recipe(tmp_path), [], "")
    write_text(run.scores, "old")
    enter_run(recipe(tmp_path, seed=2, overwrite=True), [], "")
    assert not run.scores.exists()
    assert run.read_config().seed == 2


def test_start_that_was_killed_before_the_recipe_was_written_begins_again(tmp_path):
    whole = enter_run(recipe(tmp_path), [], "")
    whole.config.unlink()
    assert enter_run(recipe(tmp_path), [], "").config.is_file()
    whole.config.unlink()
    whole.environment.unlink()
    assert enter_run(recipe(tmp_path, overwrite=True), [], "").config.is_file()


def test_run_in_use_is_not_thrown_away(tmp_path):
    run = enter_run(recipe(tmp_path), [], "")
    with run.fold_lock(1), pytest.raises(RunError, match="is being worked on by another process"):
        enter_run(recipe(tmp_path, overwrite=True), [], "")
    assert run.config.is_file()


def test_helping_process_does_not_throw_the_run_away(tmp_path):
    run = enter_run(recipe(tmp_path), [], "")
    write_text(run.scores, "new")
    enter_run(recipe(tmp_path, overwrite=True), [], "", may_overwrite=False)
    assert run.scores.read_text() == "new"


@pytest.mark.slow
def test_many_processes_enter_one_run_at_once(tmp_path):
    code = f"""
        from omegaconf import OmegaConf
        from mpi_unet.run import enter_run, note_in_environment
        import sys
        config = OmegaConf.create({{"name": "a", "runs_dir": {str(tmp_path)!r}, "overwrite": False, "seed": 1}})
        note_in_environment(enter_run(config, [], ""), **{{"fact_" + sys.argv[1]: 1}})
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen([*command, str(number)], cwd=CHECKOUT) for number in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    facts = [key for key in read_json(tmp_path / "a" / "environment.json") if key.startswith("fact_")]
    assert len(facts) == 6, "no fact of a parallel fold is lost"


def test_overwrite_does_not_touch_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and is no run of mpi_unet; choose another place with name="):
        enter_run(recipe(tmp_path, overwrite=True), [], "")
    assert (tmp_path / "a" / "thesis.txt").read_text() == "mine"


def test_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written: .*choose another folder"):
        enter_run(recipe(tmp_path / "file"), [], "")


def test_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(RunError, match="so it is no run; give the folder that train printed"):
        Run(tmp_path).read_config()


def test_fold_is_locked_against_another_process(tmp_path):
    run = Run(tmp_path)
    code = f"""
        from pathlib import Path
        from mpi_unet.errors import RunError
        from mpi_unet.run import Run
        try:
            with Run(Path({str(tmp_path)!r})).fold_lock(2):
                print("entered")
        except RunError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with run.fold_lock(2):
        said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
        assert "is being worked on by another process" in said
    assert subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout == "entered\n"


# --- whole files ---


def test_file_is_whole_or_absent(tmp_path):
    def write_half(path):
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("the machine stumbles")

    with pytest.raises(RuntimeError, match="stumbles"):
        write_half(tmp_path / "scores.csv")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "scores.csv", "old")
    with pytest.raises(RuntimeError, match="stumbles"):
        write_half(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == "old"


def test_full_disk_is_said_and_leaves_the_old_file(tmp_path):
    """The kernel refuses the write: a limit on the size of files stands for the full disk."""
    code = f"""
        import resource, signal
        from mpi_unet.errors import RunError
        from mpi_unet.files import write_text
        write_text({str(tmp_path / "a.txt")!r}, "old")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_text({str(tmp_path / "a.txt")!r}, "new" * 1000)
        except RunError as error:
            print(error)
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    assert "cannot be written: File too large" in said
    assert "give the same command again and it goes on from there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_json_refuses_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert not list(tmp_path.iterdir())


def test_hash_of_parts_depends_on_where_they_part():
    assert sha256("ab", "c") != sha256("a", "bc")
