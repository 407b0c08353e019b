"""util.read_once: every item once, and no process left on any way out."""

import multiprocessing
from contextlib import closing

import pytest
from torch.utils.data import Dataset

from util.read_once import read_once


class Squares(Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        if index == 7:
            raise ValueError("no square of 7")
        return index**2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_items_come_in_order_and_processes_end_with_an_error(num_workers):
    found = []
    with (
        pytest.raises(ValueError, match="no square of 7"),
        closing(read_once(Squares(), num_workers=num_workers)) as items,
    ):
        for item in items:
            found.append(item)
    assert found == [0, 1, 4, 9, 16, 25, 36]
    assert not multiprocessing.active_children()


def test_processes_end_when_it_is_closed():
    with closing(read_once(Squares(), num_workers=2)) as items:
        assert next(items) == 0
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()
