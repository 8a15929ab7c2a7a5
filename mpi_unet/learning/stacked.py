"""Networks of one architecture that compute together: their weights stacked, their layers applied once for all.

A *member* is one of the networks. Its parameters become views into tensors of shape (member, ...), so that whatever
changes a member's parameters - its optimizer, a checkpoint that is loaded - changes the stack, and the other way round.
Convolutions of stacked weights are grouped convolutions: each member sees its own images only, and the gradients of one
are untouched by those of the others. Inputs of equal shape are stacked; a member whose batch has another shape (the
last one of an epoch) computes alone in the same round.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from mpi_unet.errors import TrainingError

__all__ = ["NetworkStack"]

REMEDY = "use split.parallel=processes, or split.parallel=null to train one fold after another"


@dataclass(frozen=True)
class _Stack:
    """Stacked parameters and buffers of some members.

    Attributes:
        members: In the order of the first axis.
        parameters: Leaves of the graph, (member, ...) by name.
        buffers: (member, ...) by name; written to by layers that keep statistics.
        own: The members' own tensors in the same order, by name.
        is_shared: Whether the members' own tensors are views of these; if not, these are copies.
        addresses: Where the members' own tensors lay when the stack was made.
    """

    members: tuple[int, ...]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    own: dict[str, list[Tensor]]
    is_shared: bool
    addresses: list[int]

    @property
    def is_in_place(self) -> bool:
        """Whether the members still hold views; moving a network to another device ends that."""
        own = (tensor for tensors in self.own.values() for tensor in tensors)
        return all(tensor.data_ptr() == address for tensor, address in zip(own, self.addresses, strict=True))


class NetworkStack:
    """Several networks of one architecture, run together.

    Example:
        Two linear layers, each with an input of its own.

        >>> networks = {fold: nn.Linear(1, 1, bias=False) for fold in range(2)}
        >>> stack = NetworkStack()
        >>> for fold, network in networks.items():
        ...     nn.init.constant_(network.weight, fold + 1.0).requires_grad_(True) is None
        ...     stack.join(fold, network)
        False
        False
        >>> outputs = stack.forward({0: torch.ones(1, 1), 1: torch.full((1, 1), 3.0)})
        >>> [output.item() for output in outputs.values()]
        [1.0, 6.0]
        >>> stack.backward({fold: output.sum() for fold, output in outputs.items()})
        >>> [network.weight.grad.item() for network in networks.values()]
        [1.0, 3.0]
    """

    def __init__(self) -> None:
        self.networks: dict[int, nn.Module] = {}
        self._shell: nn.Module | None = None  # the architecture, without weights
        self._shared: _Stack | None = None
        self._used: list[_Stack] = []

    def join(self, member: int, network: nn.Module) -> None:
        """Add a network.

        Raises:
            TrainingError: It draws random numbers, which would not be those that it draws alone, or its architecture
                differs from that of the others.
        """
        random = [
            f"{name} ({type(module).__name__})"
            for name, module in network.named_modules()
            if isinstance(module, _DropoutNd | nn.RReLU) and getattr(module, "p", 1.0) > 0
        ]
        if random:
            raise TrainingError(
                f"the network draws random numbers while it learns, in {', '.join(random)}; in a stack they would not "
                f"be those of the fold trained alone: {REMEDY}"
            )
        if self._shell is None:
            self._shell = copy.deepcopy(network).to("meta")
        ours, theirs = _shapes(self._shell), _shapes(network)
        if ours != theirs:
            differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            raise TrainingError(
                f"network {member} differs from the others of the stack in {', '.join(differing[:5])}; only networks "
                f"of one architecture can be stacked: {REMEDY}"
            )
        self.networks[member] = network
        self._shared = None

    def leave(self, member: int) -> None:
        """Let a network go; the others stay together."""
        del self.networks[member]
        self._shared = None
        self._used = [stack for stack in self._used if member not in stack.members]

    def forward(self, inputs: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Outputs of some members, as their networks alone would give them.

        Args:
            inputs: By member, (b, ...); those of equal shape are computed at once.

        Raises:
            TrainingError: The network does something that cannot be stacked.
        """
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for member, image in inputs.items():
            groups[(image.shape, image.dtype, self.networks[member].training)].append(member)
        outputs: dict[int, Tensor] = {}
        for group in groups.values():
            if len(group) == 1:
                network = self.networks[group[0]]
                outputs[group[0]] = type(network).forward(network, inputs[group[0]])
            else:
                outputs |= self._together(tuple(sorted(group)), inputs)
        return {member: outputs[member] for member in inputs}

    def backward(self, losses: Mapping[int, Tensor]) -> None:
        """Gradients of each member's loss in its own parameters, added to what is there, by one pass for all."""
        torch.autograd.backward(list(losses.values()))
        used, self._used = self._used, []
        for stack in used:
            for name, stacked in stack.parameters.items():
                if stacked.grad is None:
                    continue
                for member, own, gradient in zip(stack.members, stack.own[name], stacked.grad, strict=True):
                    if member in losses:
                        own.grad = gradient if own.grad is None else own.grad.add_(gradient)
                stacked.grad = None

    def _together(self, group: tuple[int, ...], inputs: Mapping[int, Tensor]) -> dict[int, Tensor]:
        shell = self._shell
        assert shell is not None
        shell.train(self.networks[group[0]].training)
        stack = self._stack(group)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], image: Tensor) -> Tensor:
            return functional_call(shell, (parameters, buffers), (image,))

        images = torch.stack([inputs[member] for member in group])
        try:
            outputs = torch.vmap(one)(stack.parameters, stack.buffers, images)
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise TrainingError(
                    f"the device has no room for {len(group)} networks at once: {error}. Take a smaller "
                    f"loader.batch_size, or {REMEDY}"
                ) from error
            raise TrainingError(f"{type(shell).__name__} cannot be stacked: {error}; {REMEDY}") from error
        if not stack.is_shared and shell.training:
            for name, buffer in stack.buffers.items():
                for own, value in zip(stack.own[name], buffer, strict=True):
                    own.copy_(value)
        if torch.is_grad_enabled() and all(stack is not before for before in self._used):
            self._used.append(stack)
        return dict(zip(group, outputs, strict=True))

    def _stack(self, group: tuple[int, ...]) -> _Stack:
        """Stack of a group: the shared one when it is everybody, else copies."""
        if self._shared is not None and self._shared.members == group and self._shared.is_in_place:
            return self._shared
        everybody = group == tuple(sorted(self.networks)) and not torch.is_inference_mode_enabled()
        parameters = [dict(self.networks[member].named_parameters()) for member in group]
        buffers = [dict(self.networks[member].named_buffers()) for member in group]
        own = {name: [named[name] for named in tensors] for tensors in (parameters, buffers) for name in tensors[0]}
        stacked = {name: _stacked(tensors, is_shared=everybody) for name, tensors in own.items()}
        stack = _Stack(
            group,
            {name: stacked[name] for name in parameters[0]},
            {name: stacked[name] for name in buffers[0]},
            own,
            is_shared=everybody,
            addresses=[tensor.data_ptr() for tensors in own.values() for tensor in tensors],
        )
        if everybody:
            self._shared = stack
        return stack


def _stacked(tensors: Sequence[Tensor], *, is_shared: bool) -> Tensor:
    """Copies of some tensors stacked as a leaf; shared ones become views of it."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    if is_shared:
        for tensor, view in zip(tensors, stacked, strict=True):
            tensor.data = view
    if not torch.is_inference_mode_enabled():
        stacked.requires_grad_(tensors[0].requires_grad)
    return stacked


def _shapes(network: nn.Module) -> dict[str, tuple[object, ...]]:
    own = [*network.named_parameters(), *network.named_buffers()]
    return {name: (tuple(value.shape), value.dtype) for name, value in own}
