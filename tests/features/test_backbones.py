"""Backbones without hidden state: copied, pickled, exported, shared by threads and processes."""

import copy
import io
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_networks import wrapped
from torch import nn

from diml_nb.features import backbones as backbone_module
from diml_nb.features.backbones import (
    Backbone,
    get_backbone,
)

NETS = ("own", "torchvision/resnet18", "timm/resnet10t", "squeezenet1_1", "xfeat")


@pytest.fixture(scope="module", params=NETS)
def net(request):
    torch.manual_seed(0)
    if request.param == "own":
        return wrapped()
    net = get_backbone(request.param, pretrained=False)
    net.image_size = 64
    return net


@pytest.fixture(scope="module")
def image(net):
    return torch.randn(
        2, 3, net.image_size, net.image_size, generator=torch.Generator().manual_seed(1)
    )


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def averaged(net):
    average = torch.optim.swa_utils.AveragedModel(net)
    average.update_parameters(net)
    return average


def traced(net):
    return torch.jit.trace(
        net, torch.zeros(2, 3, net.image_size, net.image_size), check_trace=False
    )


def exported(net):
    return torch.export.export(net, (torch.zeros(2, 3, net.image_size, net.image_size),)).module()


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, pickled, saved, averaged, traced, exported]
)
@pytest.mark.filterwarnings("ignore")
def test_a_backbone_can_be(net, image, way):
    with torch.no_grad():
        right, other = net(image), way(net)
        assert torch.allclose(other(image), right, atol=1e-5)
        assert torch.allclose(net(image), right, atol=1e-6)


def test_a_copy_is_one_of_its_own(net, image):
    other = copy.deepcopy(net)
    with torch.no_grad():
        right = net(image)
        for p in other.parameters():
            p.mul_(0.5)
        assert not torch.allclose(other(image), right)
        assert torch.equal(net(image), right)


def test_nothing_is_kept_on_a_backbone(net, image):
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    net(image)
    assert {name: set(vars(module)) for name, module in net.named_modules()} == before
    tensors = [
        x for module in net.modules() for x in vars(module).values() if isinstance(x, torch.Tensor)
    ]
    hooks = [hook for module in net.modules() for hook in module._forward_hooks.values()]
    assert not tensors
    assert all(hook.__closure__ is None for hook in hooks)
    assert getattr(backbone_module._WATCHED, "now", (None, [])) == (None, [])


def test_several_threads_on_one_backbone(net):
    "Each gets the map of its own images, many times."
    draw = torch.Generator().manual_seed(2)
    images = [torch.randn(1, 3, net.image_size, net.image_size, generator=draw) for _ in range(6)]
    with torch.no_grad():
        right = [net(x) for x in images]

    def work(n):
        with torch.no_grad():
            return all(torch.allclose(net(images[n]), right[n], atol=1e-5) for _ in range(20))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(6)))


class Waits(nn.Module):
    "Behind the map: nobody goes on before both threads have made theirs."

    def __init__(self):
        super().__init__()
        self.barrier = [threading.Barrier(1)]

    def forward(self, x):
        self.barrier[0].wait()
        return x.mean((2, 3))


def test_two_threads_that_are_in_the_network_at_once():
    waits = Waits()
    torch.manual_seed(0)
    net = Backbone(nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), waits), image_size=32)
    images = torch.randn(2, 1, 3, 32, 32)
    right = [net(x) for x in images]
    waits.barrier[0] = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(net, images))
    assert all(torch.equal(x, y) for x, y in zip(found, right))


def _map_of(net, image, answer):
    with torch.no_grad():
        answer.put(net(image).numpy())


def test_workers_under_spawn(net, image):
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    worker = context.Process(target=_map_of, args=(net, image, answer))
    worker.start()
    found = answer.get(timeout=120)
    worker.join()
    with torch.no_grad():
        assert np.allclose(found, net(image).numpy(), atol=1e-5)


def test_two_backbones_of_one_network():
    "The second, for another image size, finds its map elsewhere; the first does not notice."
    network = nn.Sequential(
        nn.Conv2d(3, 4, 8, stride=8),
        nn.ReLU(),
        nn.Conv2d(4, 6, 4, stride=4),
        nn.AdaptiveAvgPool2d(1),
    )
    first = Backbone(network, image_size=32)
    x = torch.randn(1, 3, 64, 64)
    right = first(x)
    second = Backbone(network, image_size=64)
    assert right.shape == (1, 4, 8, 8)
    assert torch.equal(first(x), right)
    assert second(x).shape == (1, 6, 2, 2)


def test_a_module_that_is_called_twice():
    "Its first output is the map, its second a vector."
    act = nn.ReLU()
    net = Backbone(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4),
            act,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
            act,
        ),
        image_size=32,
    )
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 8, 8, 8)


def test_a_module_that_was_replaced_is_named():
    net = wrapped()
    net.network[1] = nn.Tanh()
    with pytest.raises(
        ValueError, match="its module '1' gave no output; wrap the changed network anew"
    ):
        net(torch.zeros(1, 3, 32, 32))
