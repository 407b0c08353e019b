"""How the processes of one attempt at a run find each other, and none of an earlier attempt.

When a process dies, torchrun starts all of them again, but the key-value store in which they look
each other up lives on in its agent, with the keys of the attempt that failed. Processes that take
an old key for a new one hang or fail. A number such as TORCHELASTIC_RESTART_COUNT does not tell
attempts apart everywhere: every machine counts its own restarts. So the processes agree on a name:

    every process         draws a word that nobody used before and writes it as `word/RANK`
    rank 0                joins the words of all ranks to a name and writes it as `name`
    every process         that finds its word in `name` writes `confirmed/KEY/RANK`
    rank 0                once all have confirmed, writes KEY, a digest of the name, as `agreed`

A dead process cannot confirm, and rank 0 makes a new name whenever a word changes.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, Store

POLL_SECONDS = 0.02


def store_of_attempt(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """A view of `store` that only the processes of this attempt share, empty at first.

    Raises: TimeoutError if not all of them have come within `timeout`.
    """
    table = PrefixStore("attempt", store)
    attempt = _Attempt(table, rank, world_size)
    deadline = time.monotonic() + timeout.total_seconds()
    while not attempt.agree():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the {world_size} processes of this run did not all start within "
                f"{timeout.total_seconds():g} seconds (this is process {rank}): start all of "
                "them, with the same address of the first"
            )
        time.sleep(POLL_SECONDS)
    return PrefixStore(f"attempt/{attempt.key}", store)


class _Attempt:
    """One process's part in agreeing on the name of an attempt."""

    def __init__(self, table: Store, rank: int, world_size: int):
        self.table, self.rank, self.world_size = table, rank, world_size
        self.word = uuid.uuid4().hex
        self.table.set(f"word/{rank}", self.word)
        self.key = ""

    def agree(self) -> bool:
        """Make the next step that is possible; whether all have agreed on the name with `key`."""
        if self.rank == 0:
            self._propose()
        words = self._read("name").split()
        if len(words) != self.world_size or words[self.rank] != self.word:
            return False
        key = hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest()
        if key != self.key:
            self.table.set(f"confirmed/{key}/{self.rank}", "")
            self.key = key
        if self.rank == 0 and self.table.check(self._of_all(f"confirmed/{key}")):
            self.table.set("agreed", key)
        return self._read("agreed") == key

    def _propose(self) -> None:
        """Write the name that the present words make, once all are there."""
        keys = self._of_all("word")
        if self.table.check(keys):
            name = " ".join(word.decode() for word in self.table.multi_get(keys))
            if name != self._read("name"):
                self.table.set("name", name)

    def _of_all(self, prefix: str) -> list[str]:
        return [f"{prefix}/{rank}" for rank in range(self.world_size)]

    def _read(self, key: str) -> str:
        return self.table.get(key).decode() if self.table.check([key]) else ""
