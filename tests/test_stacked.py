"""Networks that compute together give what each gives alone; tasks that take turns behave as if alone."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from torch import nn

from mpi_unet.config import config_dir
from mpi_unet.errors import TrainingError
from mpi_unet.learning.rounds import Rounds
from mpi_unet.learning.stacked import NetworkStack

LOSS = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)


def small_unet(dims: int = 2, **more) -> nn.Module:
    return UNet(dims, 1, 2, channels=[4, 8], strides=[2], num_res_units=1, **more)


def networks(make=small_unet, number=3) -> dict[int, nn.Module]:
    made = {}
    for member in range(number):
        torch.manual_seed(member)
        made[member] = make()
    return made


def stack_of(members: dict[int, nn.Module]) -> NetworkStack:
    stack = NetworkStack()
    for member, network in members.items():
        stack.join(member, network)
    return stack


def batches(sizes: dict[int, int], step: int, dims: int = 2) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    made = {}
    for member, size in sizes.items():
        generator = torch.Generator().manual_seed(100 * step + member)
        image = torch.rand(size, 1, *[16] * dims, generator=generator)
        made[member] = (image, (image > 0.7).long())
    return made


def trained(alone, together, sizes_of_step, make_optimizer, dims=2, clip=None):
    """Losses of each step of the networks alone and together, trained on the same batches."""
    stack = stack_of(together)
    optimizers = {
        way: {member: make_optimizer(network.parameters()) for member, network in members.items()}
        for way, members in (("alone", alone), ("together", together))
    }
    losses = {"alone": [], "together": []}
    for step, sizes in enumerate(sizes_of_step):
        made = batches(sizes, step, dims)
        single = {member: LOSS(alone[member](image), label) for member, (image, label) in made.items()}
        for member in made:
            optimizers["alone"][member].zero_grad()
            single[member].backward()
        outputs = stack.forward({member: image for member, (image, _) in made.items()})
        joint = {member: LOSS(outputs[member], label) for member, (_, label) in made.items()}
        for member in made:
            optimizers["together"][member].zero_grad()
        stack.backward(joint)
        for way, members in (("alone", alone), ("together", together)):
            for member in made:
                if clip:
                    nn.utils.clip_grad_norm_(members[member].parameters(), clip)
                optimizers[way][member].step()
        losses["alone"].append([loss.item() for loss in single.values()])
        losses["together"].append([loss.item() for loss in joint.values()])
    return losses


# --- the stack against each network alone ---


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda parameters: torch.optim.AdamW(parameters, lr=0.003),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.003, fused=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4),
    ],
    ids=["AdamW", "AdamW fused", "SGD"],
)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_losses_are_those_of_each_network_alone(make_optimizer, clip):
    alone = networks()
    losses = trained(alone, copy.deepcopy(alone), [dict.fromkeys(alone, 4)] * 6, make_optimizer, clip=clip)
    np.testing.assert_allclose(losses["together"], losses["alone"], rtol=1e-5)


def test_members_with_batches_of_other_shapes_or_without_one():
    """A last batch that is smaller, two members that are left, one that is left: the steps of an epoch's end."""
    alone = networks(number=4)
    sizes = [{0: 4, 1: 4, 2: 4, 3: 4}, {0: 4, 1: 3, 2: 4, 3: 3}, {0: 2, 1: 4, 3: 2}, {2: 3}, {0: 4, 1: 4, 2: 4, 3: 4}]
    together = copy.deepcopy(alone)
    stack_losses = trained(alone, together, sizes, lambda parameters: torch.optim.SGD(parameters, lr=0.05))
    for joint, single in zip(stack_losses["together"], stack_losses["alone"], strict=True):
        np.testing.assert_allclose(joint, single, rtol=1e-5)
    for member, network in alone.items():
        for own, other in zip(network.parameters(), together[member].parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_those_of_each_member():
    alone = networks(lambda: small_unet(norm="BATCH"))
    together = copy.deepcopy(alone)
    sizes = [dict.fromkeys(alone, 4), {0: 4, 1: 3, 2: 4}, dict.fromkeys(alone, 4)]
    trained(alone, together, sizes, lambda parameters: torch.optim.SGD(parameters, lr=0.05))
    names = [name for name, _ in alone[0].named_buffers()]
    assert any("running_mean" in name for name in names)
    for member, network in alone.items():
        for name in names:
            torch.testing.assert_close(
                network.get_buffer(name), together[member].get_buffer(name), rtol=1e-4, atol=1e-5
            )


def test_volumes_and_evaluation_without_gradients():
    alone = networks(lambda: small_unet(3).eval())
    stack = stack_of(copy.deepcopy(alone))
    images = {member: image for member, (image, _) in batches(dict.fromkeys(alone, 2), 0, dims=3).items()}
    with torch.inference_mode():
        outputs = stack.forward(images)
        for member, output in outputs.items():
            torch.testing.assert_close(output, alone[member](images[member]), rtol=1e-5, atol=1e-5)
    losses = trained(
        networks(lambda: small_unet(3)),
        networks(lambda: small_unet(3)),
        [dict.fromkeys(alone, 2)] * 3,
        lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        dims=3,
    )
    np.testing.assert_allclose(losses["together"], losses["alone"], rtol=1e-5)


@pytest.mark.parametrize("name", ["unet", "unet_small", "attention_unet", "segresnet", "unet_3d"])
def test_every_network_of_conf_can_be_stacked(name):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"model={name}"]).model
    alone = networks(lambda: instantiate(config), number=2)
    together = copy.deepcopy(alone)
    image = torch.rand(2, 2, 1, *[32] * config.spatial_dims)
    stack = stack_of(together)
    outputs = stack.forward({member: image[member] for member in alone})
    stack.backward({member: output.square().mean() for member, output in outputs.items()})
    for member, network in alone.items():
        expected = network(image[member])
        expected.square().mean().backward()
        torch.testing.assert_close(outputs[member], expected, rtol=1e-4, atol=1e-4)
        scale = max(float(parameter.grad.abs().max()) for parameter in network.parameters())
        for own, other in zip(network.parameters(), together[member].parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-4 * scale)


def test_member_that_leaves_takes_its_weights_and_the_others_go_on():
    alone = networks()
    together = copy.deepcopy(alone)
    stack = stack_of(together)
    stack.forward({member: image for member, (image, _) in batches(dict.fromkeys(alone, 2), 0).items()})
    stack.leave(1)
    kept = copy.deepcopy(together[1].state_dict())
    images = {member: image for member, (image, _) in batches({0: 2, 2: 2}, 1).items()}
    outputs = stack.forward(images)
    stack.backward({member: output.mean() for member, output in outputs.items()})
    for member in (0, 2):
        torch.testing.assert_close(outputs[member], alone[member](images[member]), rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            for parameter in together[member].parameters():
                parameter.zero_()
    assert all(torch.equal(value, kept[name]) for name, value in together[1].state_dict().items())
    assert all(not output.any() for output in stack.forward(images).values()), "views, not copies"


def test_weights_that_are_loaded_or_moved_are_seen_by_the_stack():
    members = networks(number=2)
    stack = stack_of(members)
    images = {member: image for member, (image, _) in batches({0: 2, 1: 2}, 0).items()}
    stack.forward(images)
    members[0].load_state_dict(members[1].state_dict())
    outputs = stack.forward({0: images[1], 1: images[1]})
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    for parameter in members[0].parameters():
        parameter.data = torch.zeros_like(parameter)  # what moving to another device does
    assert not stack.forward(images)[0].any()


def test_gradients_add_up_over_batches():
    members = networks(number=2)
    stack = stack_of(members)
    for step in range(2):
        outputs = stack.forward({member: image for member, (image, _) in batches({0: 2, 1: 2}, 0).items()})
        stack.backward({member: output.square().mean() for member, output in outputs.items()})
        gradients = [parameter.grad.clone() for parameter in members[0].parameters()]
        if step == 0:
            first = gradients
    for one, both in zip(first, gradients, strict=True):
        torch.testing.assert_close(both, 2 * one)


# --- what cannot be stacked ---


def test_dropout_is_refused_by_name():
    with pytest.raises(TrainingError, match=r"draws random numbers.*\(Dropout\).*split.parallel=processes"):
        stack_of(networks(lambda: small_unet(dropout=0.2)))


def test_networks_of_different_size_are_refused():
    members = {0: small_unet(), 1: UNet(2, 1, 2, channels=[4, 6], strides=[2], num_res_units=1)}
    with pytest.raises(TrainingError, match=r"network 1 differs.*model\.1.*one architecture"):
        stack_of(members)


class LooksAtItsOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image):
        return image * self.weight if float(image.sum()) > 0 else image


def test_network_that_cannot_be_stacked_is_refused_with_the_remedy():
    stack = stack_of({0: LooksAtItsOutput(), 1: LooksAtItsOutput()})
    with pytest.raises(TrainingError, match=r"LooksAtItsOutput cannot be stacked: .*split.parallel=processes"):
        stack.forward({0: torch.ones(1), 1: torch.ones(1)})


# --- taking turns ---


def test_each_task_draws_the_numbers_that_it_draws_alone():
    def draws(task, pause):
        torch.manual_seed(task)
        np.random.seed(task)  # noqa: NPY002 - Lightning seeds the global one
        drawn = []
        for step in range(3):
            drawn.append((float(torch.rand(1)), float(np.random.random())))  # noqa: NPY002 - as above
            pause(step)
        return drawn

    rounds = Rounds(lambda requests: dict.fromkeys(requests))
    state = torch.get_rng_state()
    together = rounds.run(
        {task: lambda task=task: draws(task, lambda step: rounds.ask(task, (step,), None)) for task in range(3)}
    )
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left as it was"
    assert together == {task: draws(task, lambda step: None) for task in range(3)}


def test_requests_of_the_smallest_order_are_served_first_and_together():
    served = []

    def serve(requests):
        served.append(dict(requests))
        return requests

    def task(number, orders):
        return [rounds.ask(number, order, order) for order in orders]

    rounds = Rounds(serve)
    plans = {0: [(0, 0), (1, 0)], 1: [(0, 0), (0, 1), (1, 0)], 2: [(1, 0)]}
    answers = rounds.run({number: lambda number=number: task(number, plans[number]) for number in plans})
    assert answers == plans
    assert served == [
        {0: (0, 0), 1: (0, 0)},
        {1: (0, 1)},
        {0: (1, 0), 1: (1, 0), 2: (1, 0)},
    ]


def test_task_that_fails_does_not_end_the_others_and_a_failed_round_fails_for_all_of_it():
    def serve(requests):
        if "bad" in requests.values():
            raise ValueError("served badly")
        return requests

    def task(number):
        first = rounds.ask(number, (0,), "good")
        if number == 1:
            raise KeyError("own fault")
        rounds.ask(number, (1,), "bad" if number == 2 else "good")
        return first

    rounds = Rounds(serve)
    outcomes = rounds.run({number: lambda number=number: task(number) for number in range(4)})
    assert isinstance(outcomes[1], KeyError)
    assert {type(outcomes[number]) for number in (0, 2, 3)} == {ValueError}


def test_interruption_ends_every_task(monkeypatch):
    ended = []
    rounds = Rounds(lambda requests: requests)

    def task(number):
        try:
            for step in range(1000):
                if step == 5 and number == 0:
                    interrupt.set()
                    threading.Event().wait(0.05)
                rounds.ask(number, (step,), None)
        finally:
            ended.append(number)

    interrupt = threading.Event()

    class Waits(threading.Event):
        def wait(self, timeout=None):
            if threading.current_thread() is threading.main_thread() and not interrupted:
                interrupt.wait()
                interrupted.append(True)
                raise KeyboardInterrupt
            return super().wait(timeout)

    interrupted: list[bool] = []
    rounds._is_over = Waits()
    with pytest.raises(KeyboardInterrupt):
        rounds.run({number: lambda number=number: task(number) for number in range(3)})
    assert sorted(ended) == [0, 1, 2]
