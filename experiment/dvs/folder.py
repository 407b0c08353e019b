"""spikingjelly's data set classes on folders whose frames are ready.

By themselves these classes start a download when the recordings are not there, and delete an
archive whose checksum is wrong. Here they only read; experiment.dvs.prepare does the rest.
"""

from __future__ import annotations

from spikingjelly import datasets


class _FramesAreReady:
    def prepare_raw_dataset(self) -> None:
        """Nothing to do: recordings are not needed once there are frames."""


class CIFAR10DVS(_FramesAreReady, datasets.CIFAR10DVS):
    """CIFAR10-DVS, and what is in its format."""


class NMNIST(_FramesAreReady, datasets.NMNIST):
    """N-MNIST."""


class DVS128Gesture(_FramesAreReady, datasets.DVS128Gesture):
    """DVS128 Gesture, and what has its 128 x 128 pixels and its folders train/ and test/."""
