"""An evaluation, opened: how well network and readers agree, with the margin and what may be concluded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mpi_unet.api.report_folder import ReportFolder

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["Evaluation"]

PANEL_ROWS = {
    "P0": "network and reader",
    "Pn": "reader and reader",
    "delta": "difference: P0 - Pn",
}


@dataclass(frozen=True)
class Evaluation(ReportFolder):
    """What ``evaluate`` left behind.

    Attributes:
        folder: Its output, or the run that was evaluated.
    """

    @cached_property
    def document(self) -> dict[str, Any]:
        """All of it, as in ``agreement.json``; docs/agreement.md says what is what.

        Raises:
            AgreementError: There is none, because a single reader outlined, or it cannot be read.
        """
        from mpi_unet.agreement.schema import read_agreement

        return read_agreement(self.folder)

    @property
    def conclusion(self) -> str:
        """What may be said, in the words of the report."""
        return str(self.document["conclusion"]["text"])

    @property
    def verdict(self) -> str:
        """``equivalent``, ``noninferior``, ``worse_beyond_margin``, ... or ``not_assessable``."""
        return str(self.document["conclusion"]["verdict"])

    @property
    def readers(self) -> tuple[str, ...]:
        """Who was compared."""
        return tuple(self.document["design"]["readers"])

    @property
    def margin(self) -> float | None:
        """The largest difference that would not matter, as it was given; None without one."""
        margin = self.document["design"]["margin"]
        return None if margin is None else float(margin)

    @property
    def panel(self) -> pd.DataFrame:
        """Mean agreement of network with readers (P0), of readers with one another (Pn), and their difference.

        One row a score and quantity, with the 95 % interval over patients; NaN where something cannot be said.
        """
        import pandas as pd

        rows = []
        for metric, block in self.document["agreement"].items():
            for name, meaning in PANEL_ROWS.items():
                estimate = block.get(name) or {}
                interval = estimate.get("interval") or {}
                rows.append(
                    {
                        "metric": metric,
                        "quantity": name,
                        "meaning": meaning,
                        "value": _number(estimate.get("value")),
                        "low": _number(interval.get("low")),
                        "high": _number(interval.get("high")),
                        "patients": estimate.get("n"),
                    }
                )
        return pd.DataFrame(rows)

    @property
    def pairs(self) -> pd.DataFrame:
        """Mean of every score over patients for each pair of outlines: one row a pair."""
        import pandas as pd

        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for metric, block in self.document["scores"].items():
            for pair in block["by_pair"]:
                row = rows.setdefault((pair["a"], pair["b"]), {"preds": pair["a"], "target": pair["b"]})
                row[metric] = _number(pair["summary"]["mean"])
        return pd.DataFrame(list(rows.values()))

    @property
    def patients(self) -> pd.DataFrame:
        """One row a patient: p0, pn and their difference d, of the score that decides."""
        import pandas as pd

        block = self.document["agreement"][self.document["primary"]]
        return pd.DataFrame(block["per_patient"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a case and pair of outlines - network, readers, their second reads - and one column a score."""
        from mpi_unet.api.tables import read_table, wide

        table = wide(read_table(self.folder / "agreement_scores.csv", "evaluate again"))
        design = self.document["design"]
        names = {"network", *self.readers, *design["repeat_reads"]}
        return table[table["preds"].isin(names) & table["target"].isin(names)].reset_index(drop=True)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
