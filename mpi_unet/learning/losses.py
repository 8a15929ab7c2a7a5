"""Losses that MONAI does not have in this form.

All take logits (b, class, ...) and a label of class indices (b, 1, ...).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossEntropy(nn.Module):
    """Mean cross-entropy over pixels; the softmax is inside, so the network gives logits.

    Example:
        Two pixels, the first clearly background, the second undecided: (0 + ln 2) / 2.

        >>> logits = torch.tensor([[[100.0, 0.0], [0.0, 0.0]]])
        >>> CrossEntropy()(logits, torch.tensor([[[0, 1]]]))
        tensor(0.3466)
    """

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Mean over the batch and its pixels."""
        return nn.functional.cross_entropy(logits, label.squeeze(1).long())


class DoubleSoftmaxCrossEntropy(CrossEntropy):
    """Cross-entropy of a softmax of a softmax: the slip in the seed study's public code, kept to be compared with.

    With two classes the probabilities cannot leave [0.269, 0.731], so the loss never falls below 0.313.

    Example:
        >>> logits = torch.tensor([[[100.0], [0.0]]])
        >>> DoubleSoftmaxCrossEntropy()(logits, torch.tensor([[[0]]]))
        tensor(0.3133)
    """

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Mean over the batch and its pixels."""
        return super().forward(torch.softmax(logits, dim=1), label)
