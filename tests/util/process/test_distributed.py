import weakref
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from tests.support.processes import place_of, run_processes
from util.process.distributed import Group, process_group, share_of_batch

CPU = torch.device("cpu")
ALONE = Group(0, 1, CPU)


def test_one_process_is_its_own_sum_mean_and_first():
    values = torch.tensor([1.5, -2.0])
    assert ALONE.sum(values) is values
    assert ALONE.mean(values).equal(values)
    assert ALONE.largest(values) is values
    assert ALONE.share({"a": 1}) == {"a": 1}
    assert ALONE.from_first(lambda: 7) == 7


def talk(group: Group) -> dict:
    """Everything that the methods of a group return, in plain types."""
    mine = torch.tensor([group.rank + 1.0, -group.rank], dtype=torch.float64)
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(3))
    for buffer in net.buffers():
        buffer += group.rank
    several = {"counts": torch.tensor([[2**40 + 1, group.rank]]), "loss": torch.tensor(0.5)}
    group.copy_buffers(net)
    on_another_device = group._replace(device=torch.device("meta"))  # stands for a GPU
    return {
        "sum": group.sum(mine).tolist(),
        "whole": group.sum(torch.tensor(2**24 + 1)).item(),  # beyond single precision
        "mean": group.mean(mine).tolist(),
        "unchanged": mine.tolist(),
        "largest": group.largest(mine).tolist(),
        "max": on_another_device.max(10 - group.rank),
        "share": group.share([group.rank, "words", {"nested": torch.ones(2).tolist()}]),
        "from_first": group.from_first(lambda: group.rank * 10 + 5),
        "buffers": [buffer.tolist() for buffer in net.buffers()],
        "sum_each": {name: value.tolist() for name, value in group.sum_each(several).items()},
        "first": group.is_first,
    }


@pytest.mark.parametrize("world_size", [2, 3])
def test_what_processes_say_to_each_other(world_size):
    total = [world_size * (world_size + 1) / 2, -world_size * (world_size - 1) / 2]
    for rank, heard in enumerate(run_processes(talk, world_size)):
        assert heard["sum"] == total
        assert heard["whole"] == world_size * (2**24 + 1)
        assert heard["mean"] == [value / world_size for value in total]
        assert heard["unchanged"] == [rank + 1, -rank]
        assert heard["largest"] == [world_size, 0]
        assert heard["max"] == 10
        assert heard["share"] == [0, "words", {"nested": [1, 1]}]
        assert heard["from_first"] == 5
        assert heard["buffers"] == [[0, 0], [1, 1], 0, [0, 0, 0], [1, 1, 1], 0]
        assert heard["sum_each"] == {
            "counts": [[world_size * (2**40 + 1), -total[1]]],
            "loss": world_size / 2,
        }
        assert heard["first"] == (rank == 0)


def fail_in_first(group: Group) -> str:
    def work():
        raise FileNotFoundError(2, "no such folder") if group.is_first else AssertionError

    try:
        group.from_first(work)
    except FileNotFoundError as error:
        return str(error)
    return "nothing"


def test_the_first_process_s_error_is_everybody_s():
    assert run_processes(fail_in_first, 2) == ["[Errno 2] no such folder"] * 2


def lose_the_last(group: Group) -> str:
    """The last process leaves without a word while the others wait for it."""
    if group.rank == group.world_size - 1:
        return "gone"
    group.sum(torch.ones(3))
    return "never"


def test_a_lost_process_ends_the_others_with_one_sentence():
    """By its closed connection, not by the time that it may take to answer."""
    sentence = r"ProcessesLost: process 0 of 2 lost the others.*Connection (closed|reset) by peer"
    with pytest.raises(ProcessRaisedException, match=sentence):
        run_processes(lose_the_last, 2)


def test_the_group_is_left_at_the_end(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert run_processes(place_of, 2) == [(0, 2), (1, 2)]
    with process_group("cpu") as group:
        assert group == ALONE
    assert not dist.is_initialized()


def fail_with_a_network() -> list[bool]:
    """Whether what a failed function held is still there when the group is left."""
    held, leave = [], dist.destroy_process_group
    there: list[bool] = []

    def fail():
        network = nn.Linear(1, 1)
        held.append(weakref.ref(network))
        raise ValueError("a mistake")

    def leave_and_look():
        there.append(held[0]() is not None)
        leave()

    dist.destroy_process_group = leave_and_look
    with suppress(ValueError), process_group("cpu"):
        try:
            fail()
        except ValueError as error:
            raise ValueError("another") from error
    return there


def test_an_error_keeps_no_network_when_the_group_is_left():
    """Were its wrapper the last to let go of the group, the process might never end."""
    assert run_processes(fail_with_a_network, 2, joined=False) == [[False], [False]]


def test_shares_of_a_batch():
    assert share_of_batch(12, ALONE._replace(world_size=3)) == 4
    with pytest.raises(ValueError, match="batch size 10 is not a multiple of the 4 processes"):
        share_of_batch(10, ALONE._replace(world_size=4))
