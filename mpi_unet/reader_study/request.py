"""What the door ``evaluate`` is asked for: one of five modes, and the keys that go with it.

Everything is judged before anything is read: a key of the wrong type, a key that the mode has no use for, and modes
that exclude each other give one message that names all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mpi_unet.agreement.registration import EXPECTED, registered_on, registration_kind
from mpi_unet.config import annotation_name, config_dir, fits
from mpi_unet.errors import ConfigError, nearest
from mpi_unet.reader_study.options import PRIMARY_METRICS, StudyOptions
from mpi_unet.reader_study.request_readings import reading_options_of, reading_problems

__all__ = ["MODES", "check_request", "mode_of", "options_of"]

TYPES: dict[str, Any] = {
    "run": str | None,
    "runs": str | list[str] | None,
    "against": str | None,
    "cohort": str | None,
    "predictions": str | None,
    "probabilities": str | None,
    "readers": str | list[str],
    "output": str | None,
    "network": str | None,
    "trained_on": list[str],
    "exclude": list[str],
    "allow_missing": bool,
    "num_workers": int | None,
    "created": str | None,
    "metric": str,
    "margin": float | None,
    "margin_source": str | None,
    "margin_registered_at": str | int | None,
    "alpha_one_sided": float,
    "min_patients": int,
    "tolerance_mm": float | None,
    "failure_drop": float,
    "failure_below": float,
    "volume_margin_pct": float,
    "subgroups": list[str] | None,
    "measurements": str | list[str] | None,
    "network_measurements": str | None,
    "measurement_margins": dict[str, float] | None,
    "categories": dict[str, list[str]] | None,
    "category_weights": str,
    "category_reference": str | None,
    "further_readers": list[str],
    "bootstrap.seed": int,
    "bootstrap.draws": int,
    "plan": bool,
    "sd": float | list[float] | None,
    "pilot": str | None,
    "true_delta": float | list[float],
    "power": float | list[float],
    "num_readers": int | None,
    "reader_sd": float | None,
    "failure_share": float,
}
"""Type of each key."""

_RULES = {
    "readers",
    "metric",
    "margin",
    "margin_source",
    "margin_registered_at",
    "alpha_one_sided",
    "min_patients",
    "tolerance_mm",
    "failure_drop",
    "failure_below",
    "volume_margin_pct",
    "subgroups",
    "measurements",
    "network_measurements",
    "measurement_margins",
    "categories",
    "category_weights",
    "category_reference",
    "further_readers",
    "bootstrap",
    "num_workers",
    "created",
}
_PLAN = {"margin", "alpha_one_sided", "sd", "pilot", "true_delta", "power", "num_readers", "reader_sd", "failure_share"}

MODES: dict[str, set[str]] = {
    "run": {"run", *_RULES},
    "runs": {"runs", "against", "output", "metric", "alpha_one_sided", "bootstrap"},
    "predictions": {
        "cohort",
        "predictions",
        "probabilities",
        "output",
        "network",
        "trained_on",
        "exclude",
        "allow_missing",
        *_RULES,
    },
    "readers_only": {"cohort", "output", "exclude", *_RULES}
    - {"margin", "margin_source", "margin_registered_at", "min_patients", "failure_drop", "network_measurements"},
    "plan": {"plan", "output", *_PLAN},
}
"""Mode to the keys that it reads."""

LIMITS: dict[str, tuple[float, float, str]] = {
    "margin": (0, 1, "a positive difference of the score such as 0.02"),
    "alpha_one_sided": (0, 0.051, "a one-sided level of at most 0.05, such as 0.025"),
    "failure_drop": (0, 1, "a drop of the score between 0 and 1"),
    "failure_below": (0, 1, "a score between 0 and 1"),
    "volume_margin_pct": (0, 100, "a percentage such as 5"),
}
"""Numbers that have to lie inside an open interval, and what is expected."""


def mode_of(config: DictConfig) -> str:
    """Which of the five things is asked for.

    Raises:
        ConfigError: None of them, or several.
    """
    asked = [key for key in ("run", "runs", "cohort") if config[key] is not None] + (["plan"] if config.plan else [])
    if not asked:
        raise ConfigError(
            "nothing to evaluate: add run=<run folder>, runs=[<run>,<run>], cohort=<cohort folder> with "
            "predictions=... or readers=only, or plan=true; --help shows an example of each"
        )
    if len(asked) > 1:
        raise ConfigError(
            f"{' and '.join(asked)} were both given, but they ask for different things; leave all but one out"
        )
    if asked != ["cohort"]:
        return asked[0]
    readers_only = config.readers == "only"
    if readers_only and config.predictions is not None:
        raise ConfigError(
            "predictions=... and readers=only exclude each other: only means without a network; leave one of them out"
        )
    if not readers_only and config.predictions is None:
        raise ConfigError(
            "cohort=... needs what is to be compared: predictions=<folder of <case_id>.nii.gz, or a column of "
            "readers>, or readers=only to compare the readers with one another"
        )
    return "readers_only" if readers_only else "predictions"


def check_request(config: DictConfig) -> str:
    """Refuse what cannot be meant, all of it at once, before anything is read.

    Returns:
        The mode.

    Raises:
        ConfigError: Names each key, what it is and what was expected.
    """
    problems = []
    for key, annotation in TYPES.items():
        value = OmegaConf.select(config, key)
        if not fits(value, annotation):
            problems.append(f"{key} is {_plain(value)!r}, expected {annotation_name(annotation)}")
    _raise(problems)
    mode = mode_of(config)
    _raise(_unused(config, mode) + _values(config, mode))
    return mode


def options_of(config: DictConfig) -> StudyOptions:
    """The options of a study."""
    readers = config.readers
    registered = config.margin_registered_at
    return StudyOptions(
        readers=None if isinstance(readers, str) else tuple(str(reader) for reader in readers),
        metric=config.metric,
        margin=None if config.margin is None else float(config.margin),
        margin_source=config.margin_source,
        margin_registered_at=None if registered is None else str(registered),
        alpha_one_sided=float(config.alpha_one_sided),
        min_patients=config.min_patients,
        tolerance_mm=None if config.tolerance_mm is None else float(config.tolerance_mm),
        failure_drop=float(config.failure_drop),
        failure_below=float(config.failure_below),
        volume_margin_pct=float(config.volume_margin_pct),
        subgroups=None if config.subgroups is None else tuple(str(column) for column in config.subgroups),
        readings=reading_options_of(config),
        seed=config.bootstrap.seed,
        resamples=config.bootstrap.draws,
        num_workers=config.num_workers,
        created=config.created,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _unused(config: DictConfig, mode: str) -> list[str]:
    """Keys that were changed although the mode does not read them."""
    defaults = _plain(OmegaConf.load(config_dir() / "evaluate.yaml"))
    changed = [
        key
        for key in dict.fromkeys(name.partition(".")[0] for name in TYPES)
        if key not in MODES[mode] and _plain(config[key]) != defaults[key]
    ]
    return [f"{key}={_shown(config[key])} has no meaning {_WITH[mode]}; leave it out" for key in changed]


_WITH = {
    "run": "with run=..., which knows its own cohort and predictions",
    "runs": "when recipes are compared (runs=...)",
    "predictions": "with cohort=... predictions=...",
    "readers_only": "with readers=only, where there is no network",
    "plan": "with plan=true",
}


def _values(config: DictConfig, mode: str) -> list[str]:
    problems = []
    if isinstance(config.readers, str) and config.readers not in ("all", "only"):
        hint = nearest(config.readers, ["all", "only"])
        problems.append(f"readers is {config.readers!r}, expected all, only or a list such as [{config.readers}]{hint}")
    if mode == "run" and config.readers == "only":
        problems.append("readers=only goes with cohort=..., not with run=...; leave it out, or give the run's cohort")
    if config.metric not in PRIMARY_METRICS:
        hint = nearest(config.metric, PRIMARY_METRICS)
        problems.append(f"metric is {config.metric!r}, expected {', '.join(PRIMARY_METRICS)}{hint}")
    for key, (low, high, expected) in LIMITS.items():
        if config[key] is not None and not low < config[key] < high:
            problems.append(f"{key} is {config[key]}, expected {expected}")
    if config.min_patients < 30:
        problems.append(f"min_patients is {config.min_patients}, expected 30 or more; fewer patients carry no claim")
    if config.bootstrap.draws < 1000:
        problems.append(f"bootstrap.draws is {config.bootstrap.draws}, expected 1000 or more; the ends are rough below")
    if config.bootstrap.seed < 0:
        problems.append(f"bootstrap.seed is {config.bootstrap.seed}, expected 0 or more")
    if config.num_workers is not None and config.num_workers < 1:
        problems.append(f"num_workers is {config.num_workers}, expected 1 or more, or null")
    if config.tolerance_mm is not None and config.tolerance_mm <= 0:
        problems.append(f"tolerance_mm is {config.tolerance_mm}, expected a distance in mm above 0")
    problems += reading_problems(config)
    if mode in ("runs", "predictions", "readers_only") and config.output is None:
        problems.append("output must be given: add output=<folder for the result>")
    if mode == "runs" and not isinstance(config.runs, str) and len(config.runs) < 2:
        problems.append(
            f"runs names {len(config.runs)} run(s), expected two or more; one run is run=..., all runs in a folder are "
            "runs=<folder>, those of a pattern runs='runs/sweep_*'"
        )
    if mode == "plan":
        problems += _plan_values(config)
    elif config.margin is not None and not str(config.margin_source or "").strip():
        problems.append("margin needs margin_source=<why it is that large>; a margin without a reason is no margin")
    if config.margin_registered_at is not None:
        problems += _registration(str(config.margin_registered_at), config.created)
    if config.margin is None:
        orphans = [key for key in ("margin_source", "margin_registered_at") if config[key] is not None]
        problems += [f"{key} goes with margin=...; give the margin, or leave it out" for key in orphans]
    return problems


def _registration(when: str, created: str | None) -> list[str]:
    """What is wrong with the date or commit of a margin; a day that has not come yet is none on which it was fixed."""
    if registration_kind(when) is None:
        return [f"margin_registered_at is {when!r}, expected {EXPECTED}"]
    day = registered_on(when)
    today = registered_on(created) if created else datetime.now(UTC).date()
    if day is not None and today is not None and day > today:
        return [
            f"margin_registered_at is {when}, after {today.isoformat()}, the day of this analysis; expected a day "
            "before the test patients were looked at; without one leave the key out, and the result is exploratory"
        ]
    return []


def _plan_values(config: DictConfig) -> list[str]:
    problems = []
    if config.margin is None:
        problems.append("plan=true needs margin=<largest difference that does not matter>, e.g. margin=0.02")
    if (config.sd is None) == (config.pilot is None):
        problems.append(
            "plan=true needs the spread over patients: either sd=<number>, e.g. sd=0.04, or pilot=<agreement.json of a "
            "pilot>, and not both"
        )
    return problems


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems[0] if len(problems) == 1 else "\n  ".join(["several keys are wrong:", *problems]))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value


def _shown(value: Any) -> str:
    text = str(_plain(value))
    return text.lower() if isinstance(value, bool) else text.replace("'", "").replace(" ", "")
