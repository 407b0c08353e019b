import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, Store, TCPStore

from tests.support.processes import store_server
from util.process.rendezvous import _Attempt, store_of_attempt

SHORT, LONG = timedelta(seconds=0.3), timedelta(seconds=20)


def client(server: TCPStore) -> Store:
    """A connection of a process's own."""
    return TCPStore("127.0.0.1", server.port, is_master=False)


def join_all(server: TCPStore, world_size: int, pauses: list[float]) -> list[Store]:
    """`store_of_attempt` in as many threads, each after its pause."""
    stores: dict[int, Store] = {}

    def join(rank: int) -> None:
        time.sleep(pauses[rank])
        stores[rank] = store_of_attempt(client(server), rank, world_size, LONG)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [stores[rank] for rank in range(world_size)]


@pytest.mark.parametrize("pauses", [[0, 0, 0], [0.2, 0, 0.1], [0, 0.15, 0.05]])
def test_all_processes_get_one_store(pauses):
    server = store_server()
    stores = join_all(server, 3, pauses)
    stores[1].set("greeting", "from 1")
    assert [store.get("greeting") for store in stores] == [b"from 1"] * 3


def test_a_later_attempt_sees_nothing_of_an_earlier_one():
    server = store_server()
    seen = []
    for attempt in range(4):
        stores = join_all(server, 2, [0.05 * (attempt % 2), 0.05 * (attempt // 2)])
        seen.append(stores[0].check(["address"]) or stores[1].check(["address"]))
        stores[0].set("address", str(attempt))
        assert stores[1].get("address") == str(attempt).encode()
    assert seen == [False] * 4


@pytest.mark.parametrize("dead", [[0], [1], [2], [1, 2], [0, 1, 2]])
def test_processes_that_died_while_they_were_joining_do_not_matter(dead):
    """They have written their words and taken some steps, but never agreed."""
    server = store_server()
    table = PrefixStore("attempt", client(server))
    left_over = [_Attempt(table, rank, 3) for rank in dead]
    for _ in range(2):
        for attempt in left_over[: 2 if len(dead) == 3 else None]:  # rank 2 dies before it confirms
            assert not attempt.agree()
    stores = join_all(server, 3, [0.1, 0, 0.05])
    stores[2].set("key", "value")
    assert stores[0].get("key") == b"value"


def test_a_process_alone_gives_up_in_time():
    server = store_server()
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="the 2 processes of this run did not all start"):
        store_of_attempt(client(server), 0, 2, SHORT)
    assert time.monotonic() - begun < 5
