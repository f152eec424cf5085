"""The pretended device refuses and counts what it is there for; a test that it passes would else say nothing."""

import pytest
import torch

from .pretended import NAME, PretendedDevice


@pytest.fixture
def entered():
    with PretendedDevice() as device:
        yield device


def test_what_was_left_in_main_memory_is_refused_and_numbers_are_not(entered):
    there = torch.ones(3, device=NAME)
    for act in (
        lambda: there + torch.ones(3),
        lambda: there[torch.tensor([0])],
        lambda: torch.cat([there, torch.ones(1)]),
    ):
        with pytest.raises(RuntimeError, match="on the same device"):
            act()
    assert (there * 2 + torch.tensor(1.0)).tolist() == [3.0, 3.0, 3.0]


def test_views_share_what_they_show(entered):
    room = torch.zeros(2, 3, device=NAME)
    room[:, 1:][0] = torch.tensor([5.0, 6.0], device=NAME)
    assert room.tolist() == [[0.0, 5.0, 6.0], [0.0, 0.0, 0.0]]


def test_waiting_is_counted(entered):
    def waits(act):
        before = entered.waits
        act()
        return entered.waits - before

    there = torch.arange(4, device=NAME)
    assert waits(lambda: (there + 1).to(torch.float32)[1:].sum() * 2) == 0
    assert waits(lambda: there[torch.tensor([0, 2]).to(NAME)]) == 0
    for act in (there.tolist, there.cpu, lambda: int(there[0]), there.nonzero, lambda: there[there > 2]):
        assert waits(act) >= 1
    assert waits(lambda: there[[0, 2]]) == 1


def test_a_tensor_of_it_is_of_no_use_afterwards():
    with PretendedDevice():
        there = torch.ones(3, device=NAME)
    with pytest.raises(RuntimeError, match="after the pretended device was left"):
        there + 1
