"""What a door says about a wrong configuration, and that it says so before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from doors import CHECKOUT, open_door
from omegaconf import OmegaConf

from mpi_unet import config
from mpi_unet.errors import ConfigError

WRONG_WORDS = {
    "experiment=kfold_dise": ("there is no such option", "did you mean 'kfold_dice'?"),
    "experimnt=kfold_dice": ("there is no such key", "did you mean 'experiment'?"),
    "trainer.max_epoch=3": ("there is no such key", "did you mean 'trainer.max_epochs'?"),
    "reader=A": ("there is no such key", "did you mean 'data.reader'?"),
    "seed=often": ("seed is 'often'", "expected int"),
    "split.num_folds=five": ("split.num_folds is 'five'", "expected int"),
    "overwrite=1": ("overwrite is 1", "expected bool"),
    "+split.folds=5": ("kfold_split has no argument 'folds'", "did you mean 'num_folds'?"),
    "data=cohort": ("data.root must be given", "or data=phantom to use the built-in cohort"),
    "split.unit=image": ("both sides of the split", "split.allow_leakage=true"),
    "split.allow_leakage=true": ("goes with split.unit=image only", "leave it out"),
    "prediction.threshold=0.1234": ("prediction.threshold is 0.1234", "multiple of 0.005"),
    "split.fold=first": ("split.fold is 'first'", "expected int or null"),
    "seed=-1": ("seed=-1 is less than 0",),
    "loader.batch_size=0": ("loader.batch_size=0 is less than 1",),
    "+loader.bach_size=4": ("loader.bach_size: there is no such key", "did you mean 'batch_size'?"),
}


@pytest.mark.parametrize("word", WRONG_WORDS)
def test_wrong_word_is_answered_with_the_right_one(word, tmp_path, monkeypatch, capfd):
    assert open_door("train", word, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    for part in WRONG_WORDS[word]:
        assert part in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir()), "nothing is written before the config is right"


def test_several_wrong_keys_are_named_at_once(tmp_path, monkeypatch, capfd):
    words = ("seed=often", "loader.batch_size=many", "data.exclude=P1")
    assert open_door("train", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert all(part in said for part in ("seed is 'often'", "loader.batch_size is 'many'", "data.exclude is 'P1'"))


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("trainer.max_epochs=ten", ("trainer.max_epochs is 'ten'", "int")),
        ("+loss.squared_perd=true", ("DiceLoss has no argument 'squared_perd'", "did you mean 'squared_pred'?")),
        ("+model.chanels=[8]", ("UNet has no argument 'chanels'", "did you mean 'channels'?")),
        ("~model.out_channels", ("model.out_channels: monai.networks.nets.UNet needs this argument",)),
        ("loss._target_=monai.losses.DiceLos", ("loss._target_ is 'monai.losses.DiceLos', which cannot be imported",)),
    ],
)
def test_arguments_are_checked_against_the_signature_of_their_target(word, parts, tmp_path, monkeypatch, capfd):
    assert open_door("train", word, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert all(part in said for part in parts), said
    assert not list(tmp_path.iterdir())


def test_pattern_without_quotes_is_answered_with_the_quotes_that_it_needs(tmp_path, monkeypatch, capfd):
    word = r"source.pattern=(?P<reader>\w+)\.json"
    assert open_door("prepare", "source=outlines", word, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert word + " cannot be read: a text with brackets," in said
    assert r"""'source.pattern="(?P<reader>\w+)\.json"'""" in said


@pytest.mark.parametrize(
    ("door", "words"),
    [
        ("train", ["--help"]),
        ("train", ["experiment=kfold_dise"]),
        ("train", ["trainer.max_epoch=3"]),
        ("train", ["seed=often"]),
        ("evaluate", ["--help"]),
        ("evaluate", ["rum=there"]),
        ("export", ["--help"]),
        ("prepare", ["--help"]),
        ("prepare", ["source=phantm"]),
        ("prepare", ["source=dicom", "source.gate=each"]),
    ],
)
def test_answers_without_importing_torch(door, words, tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = ['mpi_unet/{door}.py', *{words!r}]\n"
        f"from mpi_unet.{door} import main\n"
        "try:\n    main()\n"
        "except SystemExit as left:\n    status = left.code\n"
        "heavy = {'torch', 'monai', 'pytorch_lightning', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy), 'status:', status)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True
    )
    expected = 0 if words == ["--help"] else 2
    assert answer.stdout.splitlines()[-1] == f"heavy: [] status: {expected}", answer.stderr


def test_help_names_every_group_and_option(tmp_path, monkeypatch, capfd):
    assert open_door("train", "--help", folder=tmp_path, monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out
    for option in config.config_dir().glob("*/*.yaml"):
        assert option.parent.name in said
        assert option.stem in said


def test_config_dir_prefers_the_installed_folder(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "mpi_unet"
    (package / "conf").mkdir(parents=True)
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    assert config.config_dir() == package / "conf"


def test_config_dir_does_not_take_an_alien_conf(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "mpi_unet"
    package.mkdir(parents=True)
    (package.parent / "conf").mkdir()
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    with pytest.raises(FileNotFoundError, match="reinstall the package"):
        config.config_dir()


def test_targets_are_found_at_any_depth():
    node = OmegaConf.create({"a": {"_target_": "x", "b": {"_target_": "y"}}, "c": {"d": {"_target_": "z"}}})
    assert [key for key, _ in config.targets(node)] == ["a", "a.b", "c.d"]


def test_all_wrong_arguments_of_all_targets_in_one_error():
    node = OmegaConf.create(
        {
            "model": {"_target_": "pathlib.PurePath.joinpath", "self": 1},
            "loss": {"_target_": "mpi_unet.files.sha256", "part": 1},
        }
    )
    with pytest.raises(ConfigError, match=r"loss.part: mpi_unet.files.sha256 has no argument 'part'; did you mean"):
        config.check_targets(node)


def test_module_names_its_doors():
    answer = subprocess.run(
        [sys.executable, "-m", "mpi_unet", "trian"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "did you mean 'train'?" in answer.stderr
    assert Path(CHECKOUT / "mpi_unet" / "train.py").is_file()
