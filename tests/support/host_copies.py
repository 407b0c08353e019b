"""What goes between a GPU and the host, seen without a GPU."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HostCopies(TorchDispatchMode):
    """Notes every operation that makes a tensor on a GPU from one on the host, or the reverse."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = {t.device.type for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t)}
        if "cpu" in devices:
            self.found.append(str(function))
        return out
