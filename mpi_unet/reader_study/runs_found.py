"""Which runs are to be compared: folders by name, by pattern, or all runs in a folder, such as those of a sweep.

A run that was named must be whole. Of runs that were found, those that are not whole are listed with the reason and
never dropped in silence: a sweep whose failures are not mentioned shows the settings that happened to work.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.errors import RunError, listing
from mpi_unet.files import read_json
from mpi_unet.run import Run

__all__ = ["FoundRuns", "find_runs"]

MAX_DEPTH = 3
"""Folders below the one that was given: ``multirun/<date>/<time>/<number>`` is reached from ``multirun``."""


@dataclass(frozen=True)
class FoundRuns:
    """Runs by a short name that is theirs alone, and name and reason of those that cannot be compared."""

    runs: dict[str, Run]
    incomplete: tuple[tuple[str, str], ...]


def find_runs(given: str | Sequence[str]) -> FoundRuns:
    """Find the runs.

    Args:
        given: Run folders, folders that hold runs, or patterns such as ``runs/sweep_*``.

    Raises:
        RunError: Something given holds no run, a run that was named is not whole, or fewer than two whole runs remain.
    """
    words = [given] if isinstance(given, str) else list(given)
    named, found, nothing = [], [], []
    for word in words:
        path = Path(word)
        if _is_run(path):
            named.append(path)
            continue
        below = [run for match in _matches(word) for run in _runs_below(match, MAX_DEPTH)]
        found += below
        if not below:
            nothing.append(word)
    if nothing:
        raise RunError(
            f"{len(nothing)} of the folders or patterns of runs=... hold no run:\n{listing(nothing)}\n"
            "Expected run folders that train left behind, a folder that holds some, or a pattern such as 'runs/sweep_*'"
        )
    folders = list(dict.fromkeys(path.resolve() for path in (*named, *found)))
    names = dict(zip(folders, _short_names(folders), strict=True))
    reasons = {folder: _why_incomplete(Run(folder)) for folder in folders}
    wanting = [f"{path}: {reasons[path.resolve()]}" for path in named if reasons[path.resolve()]]
    if wanting:
        raise RunError(
            f"{len(wanting)} runs are not finished:\n{listing(wanting)}\nGive their training commands again; or give "
            "the folder that holds the runs instead, and those that are not finished are listed"
        )
    whole = {names[folder]: Run(folder) for folder in folders if not reasons[folder]}
    incomplete = tuple((names[folder], reason) for folder, reason in reasons.items() if reason)
    if len(whole) < 2:
        lines = [f"{name}: {reason}" for name, reason in incomplete]
        raise RunError(
            f"{len(whole)} finished run(s) among {len(folders)}, expected two or more to compare"
            + (f":\n{listing(lines)}\nGive their training commands again" if lines else "; one run is run=<folder>")
        )
    return FoundRuns(whole, incomplete)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _is_run(folder: Path) -> bool:
    return Run(folder).config.is_file() and Run(folder).environment.is_file()


def _matches(word: str) -> list[Path]:
    """The folder itself, or what a pattern fits."""
    if Path(word).is_dir():
        return [Path(word)]
    return [path for match in sorted(glob.glob(word)) if (path := Path(match)).is_dir()]


def _runs_below(folder: Path, depth: int) -> list[Path]:
    """Runs in a folder, in the order of their names (numbers by size); a run is not searched for further ones."""
    if _is_run(folder):
        return [folder]
    if depth == 0:
        return []
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    ordered = sorted(inside, key=lambda path: (int(path.name) if path.name.isdecimal() else -1, path.name))
    return [run for path in ordered for run in _runs_below(path, depth - 1)]


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    longest = max((len(folder.parts) for folder in folders), default=1)
    for length in range(1, longest + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _why_incomplete(run: Run) -> str:
    """Why a run cannot be compared; empty where it can."""
    if run.summary.is_file():
        summary = read_json(run.summary)
        if summary.get("complete"):
            return ""
        return f"{len(summary['folds'])} of {summary['design']['num_folds']} folds are done"
    if not run.splits.is_file():
        return "no fold was begun"
    folds = len(read_json(run.splits)["folds"])
    done = sum(run.is_fold_done(fold) for fold in range(folds))
    if done == folds:
        return "no summary.json, though all folds are done; evaluate run=<folder> writes it"
    return f"no summary.json; {done} of {folds} folds are done"
