"""A run, opened: its scores, its worst cases, its learning, its pictures.

``mpi_unet.run.Run`` is the folder and knows the names of its files; this is what stands in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet.api.report_folder import ReportFolder
from mpi_unet.errors import RunError, nearest
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.files import read_json
from mpi_unet.run import Run as RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from mpi_unet.api.evaluation import Evaluation
    from mpi_unet.api.run_case import RunCase
    from mpi_unet.api.viewer import Viewer
    from mpi_unet.cohort.table import Cohort

__all__ = ["Run"]

GO_ON = "give the training command again, it goes on where it stopped"


@dataclass(frozen=True)
class Run(ReportFolder):
    """What one training left behind.

    Attributes:
        folder: The run folder, see docs/run.md.
    """

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the folder that a training printed.

        Raises:
            RunError: It is no run.
        """
        RunFolder(Path(folder)).read_config()
        return cls(Path(folder))

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort that the run was made with.

        Raises:
            RunError: It is not where it was.
        """
        from mpi_unet.assessment import cohort_of

        return cohort_of(RunFolder(self.folder))

    @cached_property
    def reader(self) -> str:
        """The reader whose outlines were learnt."""
        return str(RunFolder(self.folder).read_config().data.reader)

    @property
    def headline(self) -> str:
        """The result in one sentence, as the report has it."""
        from mpi_unet.report.wording import headline

        return headline(self._summary)

    @property
    def summary(self) -> pd.DataFrame:
        """One row a score: mean over patients who were not seen in training, with its 95 % interval."""
        from mpi_unet.api.tables import metric_table

        return metric_table(self._summary["metrics"])

    @property
    def baselines(self) -> pd.DataFrame:
        """Mean scores of the network and of rules that learn nothing, one row each, on the same patients."""
        import pandas as pd

        rows = {"network": ("the network", self._summary["metrics"])}
        rows |= {name: (one["label"], one["metrics"]) for name, one in self._summary["baselines"].items()}
        columns = [name for name in METRICS if name in self._summary["metrics"]]
        table = {
            name: {"label": label} | {key: _number(metrics.get(key, {}).get("mean")) for key in columns}
            for name, (label, metrics) in rows.items()
        }
        return pd.DataFrame.from_dict(table, orient="index")

    @property
    def scores(self) -> pd.DataFrame:
        """One row a case and pair of outlines, one column a score.

        The pairs are network and reader of the training; once ``evaluate`` compared the run with all readers, also the
        network and each of them, and each two of them. Columns ``patient_id``, ``case_id``, ``fold`` (the one that held
        the patient out), ``preds``, ``target`` and the scores; what is undefined, or not measured between readers, is
        NaN.

        Raises:
            RunError: The run is not finished.
        """
        import pandas as pd

        table = self._own_scores
        if RunFolder(self.folder).agreement.is_file():
            others = self.evaluation.scores
            others = others[(others["preds"] != "network") | (others["target"] != self.reader)]
            others.insert(2, "fold", others["case_id"].map(dict(zip(table["case_id"], table["fold"], strict=True))))
            order = {case_id: place for place, case_id in enumerate(table["case_id"])}
            table = pd.concat([table, others], ignore_index=True)
            table = table.sort_values("case_id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
        return table.copy()

    @cached_property
    def learning(self) -> pd.DataFrame:
        """Learning curves: one row a fold and epoch, from 1; ``is_best`` marks the epoch whose network was kept."""
        import pandas as pd

        from mpi_unet.report.record import HISTORY_COLUMNS, read_run

        tables = []
        for history in read_run(self.folder).histories:
            table = pd.DataFrame({name: history.columns[name] for name in HISTORY_COLUMNS})
            table.insert(0, "fold", history.fold)
            table["is_best"] = table["epoch"] == history.best_epoch
            table["epoch"] = table["epoch"].astype(int) + 1
            tables.append(table)
        if not tables:
            raise RunError(f"{self.folder} holds no learning curve; {GO_ON}")
        return pd.concat(tables, ignore_index=True)

    @property
    def evaluation(self) -> Evaluation:
        """Agreement with all readers, once ``evaluate`` compared them.

        Raises:
            RunError: It did not.
        """
        from mpi_unet.api.evaluation import Evaluation

        if not RunFolder(self.folder).agreement.is_file():
            raise RunError(
                f"{self.folder} was not compared with several readers; do it with evaluate('run={self.folder}')"
            )
        return Evaluation(self.folder)

    def worst(self, n: int = 5, by: str = "dice") -> pd.DataFrame:
        """The cases that went worst against the reader of the training, the worst one first.

        Args:
            n: How many.
            by: The score; of a signed difference the size counts. Undefined scores are no candidates.

        Raises:
            RunError: There is no such score.
        """
        table = self._own_scores
        if by not in table.columns or by not in METRICS:
            known = [name for name in METRICS if name in table.columns]
            raise RunError(f"by={by!r}: the run has no such score{nearest(by, known)}; it has {', '.join(known)}")
        keys = table[by].abs() if METRICS[by].better == "zero" else table[by]
        order = keys.dropna().sort_values(ascending=METRICS[by].better == "up", kind="stable").index
        return table.loc[order].head(n).reset_index(drop=True)

    def case(self, case_id: str) -> RunCase:
        """One case, with what everybody outlined.

        Raises:
            CohortError: The cohort has no such case.
            RunError: The run has no mask of it.
        """
        from mpi_unet.api.run_case import RunCase

        self.cohort.case(case_id)
        mask = RunFolder(self.folder).prediction(case_id)
        if not mask.is_file():
            raise RunError(f"{mask} is missing: the fold that holds this patient out has not run; {GO_ON}")
        return RunCase(self, case_id)

    def dice_of(self, case_id: str) -> float:
        """Dice of network and reader of the training over one case; NaN where it is undefined or unknown."""
        table = self._own_scores
        found = table.loc[table["case_id"] == case_id, "dice"]
        return float(found.iloc[0]) if len(found) else float("nan")

    def view(self, case_id: str | None = None) -> Viewer:
        """Look through the cases and slices: interactive with ipywidgets, a picture of the worst slices without.

        Args:
            case_id: Where to begin; None for the worst case.
        """
        from mpi_unet.api.viewer import Viewer

        order = self._own_scores.sort_values("dice", kind="stable", na_position="first")["case_id"].tolist()
        return Viewer(self, tuple(order), case_id or order[0])

    # --- Private helpers ---

    @property
    def _summary(self) -> dict[str, Any]:
        path = RunFolder(self.folder).summary
        if not path.is_file():
            raise RunError(f"{path} is missing: the run is not finished; {GO_ON}")
        return dict(read_json(path))

    @cached_property
    def _own_scores(self) -> pd.DataFrame:
        """One row a case: the network against the reader of the training."""
        from mpi_unet.api.tables import read_table, wide

        rows = read_table(RunFolder(self.folder).scores, GO_ON)
        table = wide(rows.rename(columns={"reader": "target"}).assign(preds="network"))
        table.insert(2, "fold", table["case_id"].map(dict(zip(rows["case_id"], rows["fold"], strict=True))))
        return table


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
