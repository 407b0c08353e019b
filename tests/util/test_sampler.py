"""util.sampler: every sample where it belongs, whatever the ranks and wherever one resumes."""

import pytest
import torch

from util.sampler import EpochSampler, EvaluationSampler, mixed_seed, shard_indices


def keys(length: int, *, epoch: int, start: int = 0, **arguments) -> list[tuple[int, int]]:
    sampler = EpochSampler(length, **{"seed": 5, "shuffle": True, **arguments})
    sampler.set_epoch(epoch, start)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_an_epoch_is_a_permutation_keyed_by_seed_and_epoch_alone():
    torch.manual_seed(0)
    first = keys(101, epoch=3)
    torch.manual_seed(1)
    assert keys(101, epoch=3) == first
    assert {epoch for epoch, _ in first} == {3}
    order = [index for _, index in first]
    assert sorted(order) == list(range(101)) and order != list(range(101))
    assert order != [index for _, index in keys(101, epoch=4)]
    assert order != [index for _, index in keys(101, epoch=3, seed=6)]


def test_without_shuffle_the_order_is_that_of_the_data():
    assert keys(5, epoch=2, shuffle=False) == [(2, index) for index in range(5)]


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


def test_the_next_epoch_starts_from_its_beginning():
    sampler = EpochSampler(9, seed=0, shuffle=True)
    sampler.set_epoch(0, start=4)
    assert len(sampler) == 5
    sampler.set_epoch(1)
    assert len(sampler) == 9


def test_a_running_iteration_is_not_moved_by_the_next_epoch():
    sampler = EpochSampler(9, seed=0, shuffle=True)
    running = iter(sampler)
    next(running)
    sampler.set_epoch(1)
    assert {epoch for epoch, _ in running} == {0}


def test_setting_the_rng_free_order_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    keys(50, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("length", [0, 1, 12, 13, 16])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_shards_hold_each_sample_exactly_once(length, world_size):
    shards = [shard_indices(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(length))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    for rank, shard in enumerate(shards):
        sampler = EvaluationSampler(length, rank=rank, world_size=world_size)
        assert list(sampler) == list(shard) and len(sampler) == len(shard)


def test_mixed_seeds_differ_and_fit_torch():
    seeds = {mixed_seed("a", seed, i, j) for seed in range(3) for i in range(50) for j in range(50)}
    assert len({seed % 2**32 for seed in seeds}) == len(seeds) == 7500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed("a", 1, 23) != mixed_seed("a", 12, 3)
    # Each of the 63 bits is set in about half of the seeds.
    bits = torch.tensor([[seed >> bit & 1 for bit in range(63)] for seed in seeds]).double()
    assert (bits.mean(0) - 0.5).abs().max() < 0.03


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_impossible_ranks_are_refused(rank, world_size):
    with pytest.raises(ValueError, match=f"rank {rank} of {world_size}"):
        EpochSampler(10, seed=0, shuffle=True, rank=rank, world_size=world_size)
    with pytest.raises(ValueError, match=f"rank {rank} of {world_size}"):
        EvaluationSampler(10, rank=rank, world_size=world_size)


def test_too_few_samples_and_impossible_starts_are_refused():
    with pytest.raises(ValueError, match="2 training samples cannot be shared by 3 ranks"):
        EpochSampler(2, seed=0, shuffle=True, world_size=3)
    sampler = EpochSampler(10, seed=0, shuffle=True, world_size=3)
    for start in (-1, 4):
        with pytest.raises(ValueError, match=f"start {start}: expected 0 to 3"):
            sampler.set_epoch(0, start)
