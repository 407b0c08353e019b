"""What changes while a network is trained: all that a checkpoint has to hold."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiment.data_description import DataDescription, description_in, refuse_other_classes
from experiment.flag.identity import refuse_other_arguments
from experiment.train.average import WeightAverage
from experiment.train.recipe import Recipe, make_optimizer, make_scheduler
from model import RateModel
from model.distillation import DistillationLoss
from util.misc import WeightedMeans, top_k_correct
from util.util import random_state, restore_random_state

CAME_LATER = {"data", "ema", "measured"}  # entries that checkpoints of earlier versions lack


class TrainingState:
    """A network with its optimizer and schedule, and how far its training has come.

    average: that of its weights over the steps; None without --ema.
    epoch, batch: epochs finished, and steps done in the present one.
    means: metrics of the present epoch so far.
    measured: by the clock of the present epoch so far, see `clock.Stopwatch`.
    best: {"epoch", "top1"} of the best epoch so far, or None.
    lines: records written to metrics.jsonl.
    arguments: what the run computes, by flag; a checkpoint continues only the same.
    data: what it is trained on; None is not checked.
    """

    def __init__(
        self,
        net: RateModel,
        recipe: Recipe,
        arguments: dict[str, Any],
        data: DataDescription | None = None,
    ):
        self.net = net
        self.optimizer: Optimizer = make_optimizer(net, recipe)
        self.scheduler: LRScheduler = make_scheduler(self.optimizer, recipe)
        self.average = None if recipe.ema is None else WeightAverage(net, recipe.ema)
        self.arguments, self.data = arguments, data
        self.epoch = self.batch = self.lines = 0
        self.means = WeightedMeans()
        self.measured: tuple[float, ...] = ()
        self.best: dict[str, float] | None = None

    @property
    def place(self) -> str:
        """How far the training has come, for a person."""
        return self.place_of(self.batch)

    def place_of(self, step: int) -> str:
        """A step of the present epoch, for a person."""
        return f"epoch {self.epoch}, step {step}"

    def note(self, loss: DistillationLoss, logits: Tensor, labels: Tensor) -> None:
        """Add a batch to the epoch's metrics; logits (N, B, K) of the heads, labels (B,)."""
        correct = top_k_correct(logits, labels, ks=(1,))[1]
        accuracies = {"head_top1": 100 * correct / len(labels)}
        self.means.update(loss._asdict() | accuracies, weight=len(labels))

    def next_epoch(self) -> None:
        """Move the schedule and begin a new epoch."""
        self._move_schedule()
        self.epoch += 1
        self.begin_epoch_anew()

    def _move_schedule(self) -> None:
        with warnings.catch_warnings():
            # Resumed at the end of an epoch, this process has taken no step of the optimizer yet.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.scheduler.step()

    def begin_epoch_anew(self) -> None:
        """Take back the steps of the present epoch from its counts, not from the weights."""
        self.batch, self.means, self.measured = 0, WeightedMeans(), ()

    def state_dict(self) -> dict[str, Any]:
        return {
            "arguments": self.arguments,
            "data": None if self.data is None else self.data.plain(),
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "ema": None if self.average is None else self.average.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "means": self.means.state_dict(),
            "measured": self.measured,
            "best": self.best,
            "lines": self.lines,
            "random_state": random_state(),
        }

    def averaged_network(self) -> dict[str, Any]:
        """The checkpoint of the averaged network: to use it, not to go on with the training."""
        state = self.state_dict()
        kept = {name: state[name] for name in ("arguments", "data", "epoch")}
        return kept | {"averaged": True, "model": self.average.net.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken, in a training that has not begun.

        With another number of epochs, which the arguments may have, the learning rate becomes that
        of a training which had it from its first epoch on.
        Raises: ValueError if it is no state of a training, or belongs to other arguments, to other
        classes, or to a training that has had more epochs by now.
        """
        missing = self.state_dict().keys() - state.keys() - CAME_LATER
        if missing:
            what = "averaged weights alone" if state.get("averaged") else f"no {min(missing)!r}"
            raise ValueError(
                f"it is no state of a training run (it has {what}): name a last.pt or best.pt of a "
                "run, or begin a new one with --init"
            )
        epochs = {k: v for k, v in self.arguments.items() if k == "num_epoch"}
        refuse_other_arguments(state["arguments"] | epochs, self.arguments)
        extended = state["arguments"] | epochs != state["arguments"]
        if extended:
            refuse_fewer_epochs(state, self.arguments["num_epoch"])
        if self.data is not None:
            way_out = ", or begin a new run without --resume"
            refuse_other_classes(description_in(state), self.data, way_out=way_out)
        try:
            self.net.load_state_dict(state["model"])
        except RuntimeError as error:  # the same arguments build another network by now
            raise ValueError(
                f"its weights do not fit the network ({' '.join(str(error).split())}): use the "
                "version of the program that saved it"
            ) from error
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if extended:
            self._catch_up(state["epoch"])
        else:
            self.scheduler.load_state_dict(state["scheduler"])
        self.means.load_state_dict(state["means"])
        self.measured = state.get("measured", ())
        self.epoch, self.batch, self.lines = state["epoch"], state["batch"], state["lines"]
        self.best = state["best"]
        restore_random_state(state["random_state"])

    def _catch_up(self, epoch: int) -> None:
        """Move the schedule from its beginning: a cosine that has come to 0 has no way back."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for _ in range(epoch):
            self._move_schedule()


def refuse_fewer_epochs(state: dict[str, Any], asked: int) -> None:
    """ValueError if a training has begun more epochs than are asked for."""
    begun = state["epoch"] + (state["batch"] > 0)
    if asked < begun:
        raise ValueError(
            f"it has begun {begun} epochs, more than --num_epoch {asked}: give at least {begun}"
        )
