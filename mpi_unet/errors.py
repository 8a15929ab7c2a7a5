"""What goes wrong for a reason that the user can remedy.

Each error says where it happened, what was found, what was expected and what to do; when several things are wrong they
are all said at once. A door prints the text without a traceback and exits with status 2; anything that is not one of
these is a fault of ours and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MpiUnetError(ValueError):
    """Base of every error that the user can remedy."""


class ConfigError(MpiUnetError):
    """The composed configuration cannot be run."""


class CohortError(MpiUnetError):
    """A cohort, or the source that it is made from, cannot be used as it is."""


class DicomError(MpiUnetError):
    """A DICOM object cannot be read, or says something that it cannot mean."""


class NotDicomError(DicomError):
    """A file is not there, or is no DICOM object at all."""


class PacsError(MpiUnetError):
    """An archive of images cannot be reached, or does not give what it was asked for."""


class AgreementError(MpiUnetError):
    """Readings cannot be compared as asked."""


class CardiacError(MpiUnetError):
    """An outline of the heart does not have what a measurement needs."""


class SplitError(MpiUnetError):
    """Patients cannot be divided as asked, or a division would leak."""


class RunError(MpiUnetError):
    """A run folder cannot be written, read or continued."""


class BusyError(RunError):
    """Another process is at work on the same thing."""


class TrainingError(MpiUnetError):
    """Training cannot go on."""


class PredictionError(MpiUnetError):
    """Some of the studies were not segmented; everything else is done."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the candidate closest to ``word``, or an empty string when none is close.

    Example:
        >>> nearest("kfold_dise", ["kfold_dice", "holdout_dice"])
        "; did you mean 'kfold_dice'?"
        >>> nearest("unrelated", ["dice"])
        ''
    """
    matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def listing(items: Sequence[str], limit: int = 50) -> str:
    """One indented line per item; beyond ``limit`` the rest is counted rather than printed.

    Example:
        >>> print(listing(["a: missing", "b: missing", "c: missing"], limit=2))
          a: missing
          b: missing
          ... and 1 more
    """
    lines = [f"  {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)
