"""sampler: every sample where it belongs, whatever the ranks and wherever one resumes."""

import pytest
import torch

from util.process.sampler import EpochSampler, mixed_seed


def keys(length: int, *, epoch: int, start: int = 0, **arguments) -> list[tuple[int, int]]:
    sampler = EpochSampler(length, **{"seed": 5, **arguments})
    sampler.set_epoch(epoch, start)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_an_epoch_is_a_permutation_keyed_by_seed_and_epoch_alone():
    torch.manual_seed(0)
    first = keys(101, epoch=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert keys(101, epoch=3) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert {epoch for epoch, _ in first} == {3}
    order = [index for _, index in first]
    assert sorted(order) == list(range(101)) and order != list(range(101))
    assert order != [index for _, index in keys(101, epoch=4)]
    assert order != [index for _, index in keys(101, epoch=3, seed=6)]


@pytest.mark.parametrize(("length", "world_size"), [(12, 3), (101, 4), (7, 7), (10, 1)])
def test_ranks_share_the_epoch_evenly_and_without_overlap(length, world_size):
    whole = keys(length, epoch=1)
    shards = [keys(length, epoch=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(shard) for shard in shards} == {length // world_size}
    interleaved = [key for step in zip(*shards, strict=True) for key in step]
    assert interleaved == whole[: length - length % world_size]


@pytest.mark.parametrize("start", [0, 1, 17, 33])
def test_resuming_skips_what_this_rank_has_seen(start):
    shared = {"epoch": 6, "rank": 2, "world_size": 3}
    assert keys(101, start=start, **shared) == keys(101, **shared)[start:]


def test_the_next_epoch_starts_from_its_beginning_and_moves_no_running_one():
    sampler = EpochSampler(9, seed=0)
    sampler.set_epoch(0, start=4)
    running = iter(sampler)
    assert len(sampler) == 5
    sampler.set_epoch(1)
    assert len(sampler) == 9
    assert [epoch for epoch, _ in running] == [0] * 5


def test_mixed_seeds_differ_and_fit_torch():
    seeds = {mixed_seed("a", seed, i, j) for seed in range(3) for i in range(50) for j in range(50)}
    assert len({seed % 2**32 for seed in seeds}) == len(seeds) == 7500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed("a", 1, 23) != mixed_seed("a", 12, 3)
    # Each of the 63 bits is set in about half of the seeds.
    bits = torch.tensor([[seed >> bit & 1 for bit in range(63)] for seed in seeds]).double()
    assert (bits.mean(0) - 0.5).abs().max() < 0.03


def test_too_few_samples_and_impossible_starts_are_refused():
    with pytest.raises(ValueError, match="2 training samples cannot be shared by 3 ranks"):
        EpochSampler(2, seed=0, world_size=3)
    sampler = EpochSampler(10, seed=0, world_size=3)
    for start in (-1, 4):
        with pytest.raises(ValueError, match=f"start {start}: expected 0 to 3"):
            sampler.set_epoch(0, start)
