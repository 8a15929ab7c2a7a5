"""Pixel counts of cases, gathered over batches and devices.

Apart from the numpy modules of this room, so that scoring masks from files needs no torch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int, Int64, Shaped
from torch import Tensor
from torchmetrics import Metric

__all__ = ["CaseCounts"]


class CaseCounts(Metric):
    """True positives, false positives, false negatives and true negatives of every case of a validation set.

    The frames of a case may come in any order, in any batch and on any device: counts add up. Hand ``compute()`` (as
    numpy) to :mod:`mpi_unet.evaluation.overlap`; unlike a mean over batches, the result does not depend on the batch
    size.

    Shapes:
        ``update``: ``preds`` and ``target`` bool ``(b, *spatial)``, ``case_index`` ``(b,)`` in ``[0, num_cases)``.
        ``compute``: int64 ``(num_cases, 4)``; a case that was never seen is four zeros.

    Args:
        num_cases: Number of cases.

    Raises:
        TypeError: ``preds`` or ``target`` is not bool.
        ValueError: Shapes differ, or a case index is outside ``[0, num_cases)``.

    Example:
        Two frames of case 0 and one of case 1.

        >>> metric = CaseCounts(num_cases=2)
        >>> preds = torch.tensor([[True, True], [False, True], [False, False]])
        >>> target = torch.tensor([[True, False], [False, True], [True, False]])
        >>> metric.update(preds, target, torch.tensor([0, 0, 1]))
        >>> metric.compute()
        tensor([[2, 1, 0, 1],
                [0, 0, 1, 1]])
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    counts: Tensor

    def __init__(self, num_cases: int) -> None:
        super().__init__()
        if num_cases < 1:
            raise ValueError(f"num_cases is {num_cases}, expected at least 1; there is nothing to count")
        self.num_cases = num_cases
        self.add_state("counts", default=torch.zeros(num_cases, 4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        preds: Shaped[Tensor, "b ..."],
        target: Shaped[Tensor, "b ..."],
        case_index: Int[Tensor, " b"],
    ) -> None:
        """Add one batch of masks; ``case_index`` says which case each of them belongs to."""
        for name, mask in (("preds", preds), ("target", target)):
            if mask.dtype != torch.bool:
                raise TypeError(
                    f"{name} has dtype {mask.dtype}, expected torch.bool; compare probabilities with a threshold"
                )
        if preds.shape != target.shape:
            raise ValueError(f"preds has shape {tuple(preds.shape)}, target {tuple(target.shape)}; expected one grid")
        if case_index.numel() and not 0 <= int(case_index.min()) <= int(case_index.max()) < self.num_cases:
            raise ValueError(
                f"case_index spans {int(case_index.min())}..{int(case_index.max())}, expected 0..{self.num_cases - 1}; "
                "make CaseCounts with the number of cases that the loader can name"
            )
        self.counts.index_add_(0, case_index.to(self.counts.device, torch.int64), _frame_counts(preds, target))

    def compute(self) -> Int64[Tensor, "cases 4"]:
        """Counts of every case over all batches and devices."""
        return self.counts


def _frame_counts(preds: Bool[Tensor, "b ..."], target: Bool[Tensor, "b ..."]) -> Int64[Tensor, "b 4"]:
    preds, target = preds.flatten(1), target.flatten(1)
    both, drawn, wanted = (mask.sum(dim=1) for mask in (preds & target, preds, target))
    return torch.stack([both, drawn - both, wanted - both, preds.shape[1] - drawn - wanted + both], dim=1)
