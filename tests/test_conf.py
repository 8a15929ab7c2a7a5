"""Every option of conf/ composes, fits the signature of its target, and keeps the manners of docs/adr."""

from __future__ import annotations

import re

import pytest
from doors import open_door
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from mpi_unet.config import PLAIN_KEYS, check_plain_keys, check_targets, config_dir, plain, targets
from mpi_unet.errors import ConfigError
from mpi_unet.inference.options import Options
from mpi_unet.predict import checked_options

OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in config_dir().glob("*/*.yaml")
    if path.parent.name not in ("experiment", "source")
)
SOURCES = sorted(path.stem for path in (config_dir() / "source").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
GIVEN = {
    "data=cohort": ["data.root=there", "data.reader=A"],
    "data=pairs": ["data.root=there"],
    "trainer=gpu": [],
}


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=list(words))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_fits_its_target(option):
    config = composed(option, *GIVEN.get(option, []))
    check_plain_keys(config)
    if option == "logger=mlflow":
        pytest.importorskip("mlflow", reason="mlflow is an extra")
    check_targets(config)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_composes_fits_its_target_and_stands_in_the_help(source):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("prepare", overrides=[f"source={source}", "input=there", "output=here"])
    check_targets(config)
    assert re.search(rf"^ +{source} +\w", (config_dir() / "prepare.yaml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_fits(experiment):
    config = composed(f"experiment={experiment}")
    check_plain_keys(config)
    check_targets(config)
    assert config.name == experiment


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_its_command_and_its_question(experiment):
    first, command, question = (config_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:3]
    assert first == "# @package _global_"
    assert command.startswith(f"# python -m mpi_unet.train experiment={experiment}")
    assert question.startswith("# Question: ")


def test_conf_holds_yaml_only():
    assert {path.suffix for path in config_dir().rglob("*") if path.is_file()} == {".yaml"}


def test_transforms_and_callbacks_are_mappings():
    config = composed()
    for node in (config.transforms.deterministic, config.transforms.random, config.trainer.callbacks):
        assert isinstance(node, DictConfig)


def test_every_key_is_an_argument_of_a_target_or_a_plain_key():
    config = composed()
    arguments = {f"{key}.{name}" for key, node in targets(config) for name in node}
    containers = {key for key, _ in targets(config)}

    def leaves(node, prefix=""):
        for name in node:
            child = node._get_node(name)
            key = f"{prefix}{name}"
            if isinstance(child, DictConfig) and len(child) and key not in PLAIN_KEYS:
                yield from leaves(child, f"{key}.")
            else:
                yield key

    unknown = [
        key
        for key in leaves(config)
        if key not in PLAIN_KEYS and key not in arguments and not any(key.startswith(f"{box}.") for box in containers)
    ]
    assert unknown == ["logger"], "an empty logger mapping is the only key without an owner"


def test_no_flip_by_default():
    names = [node["_target_"] for _, node in targets(composed().transforms)]
    assert not [name for name in names if "Flip" in name or name.endswith(".ScaleIntensityd")]


def test_units_stand_in_the_names_of_lengths():
    for path in config_dir().rglob("*.yaml"):
        for line in path.read_text().splitlines():
            name = re.match(r"\s*(\w*(?:spacing|tolerance|pixel)\w*):", line)
            assert name is None or name.group(1).endswith("_mm"), f"{path.name}: {line}"


def test_lists_stay_lists():
    assert isinstance(composed("data.exclude=[P1,P2]").data.exclude, ListConfig)
    assert OmegaConf.to_container(composed("data.exclude=[P1,P2]").data.exclude) == ["P1", "P2"]


def predict_config(*words: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("predict", overrides=["run=nowhere", "input=there", "output=here", *words])


def keys_of(node: DictConfig, prefix: str = "") -> list[str]:
    """Every key, whatever section it stands in."""
    found = []
    for name in node:
        child = node._get_node(name)
        inside = isinstance(child, DictConfig) and len(child)
        found += keys_of(child, f"{prefix}{name}.") if inside else [f"{prefix}{name}"]
    return found


def test_predict_composes_and_its_defaults_are_options():
    config = predict_config()
    check_targets(config)
    assert checked_options(plain(config)) == Options()


@pytest.mark.parametrize("key", keys_of(predict_config()))
def test_every_key_of_predict_is_checked(key, tmp_path, monkeypatch, capfd):
    words = ["run=nowhere", "input=there", "output=here"]
    assert open_door("predict", *words, f"{key}={{wrong: 1}}", folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert "ConfigError" in said
    assert key in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("section", ["test_time", "postprocessing"])
def test_a_section_of_predict_that_is_no_section_is_refused(section):
    config = plain(predict_config()) | {section: 3}
    with pytest.raises(ConfigError, match=rf"{section} is 3, expected {section}\.\w+=\.\.\."):
        checked_options(config)
    with pytest.raises(ConfigError, match=rf"{section}\.nothing: there is no such key"):
        checked_options(config | {section: {"nothing": 1}})
