"""The flags that all experiments share, one row each; everything else follows from the rows.

A new flag is a row here, or beside an experiment's PAPER if no other has it, and its use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment.flag import idle as when
from experiment.flag.amp import PRECISIONS
from experiment.flag.kinds import FlagKind, Location, OneOf, Or, Real, Switch, Whole
from experiment.flag.row import OWN, Flag, Role
from model import BRANCH_GRADIENTS, METHODS, MODELS, STEMS, TEACHERS

OPTIMIZERS = ("SGDM", "Adam")
SCHEDULERS = ("COSINE",)

DATA, NETWORK, METHOD, TRAINING, LOOP, CIRCUMSTANCE = Role
POSITIVE = Real(0, open_low=True)
MINUTES = Real(0, 1e4, open_low=True)
FRACTION = Or(Real(0, 1, open_low=True), none=("none",))
PART_BELOW_ALL = Real(0, 1, open_high=True)
DECAY = Or(Real(0, 1, open_low=True, open_high=True), none=("none",))
LEAST = Or(Whole(1), none=("none",))
LIMIT = Or(POSITIVE, none=("none",))
WINDOW = Or(Whole(1), "default", none=("global",))

TRAINED = (when.EVALUATING,)  # silences what only training reads
KEPT = (when.TUNING, *TRAINED)  # and what only a run that is kept reads
FOLDERLESS = (when.IN_ITS_OWN_FOLDER, *KEPT)
RESETLESS = (when.NO_RESET_TO_DETACH, when.WHOLE_RESET, *TRAINED)
BRANCHLESS = (when.NO_BRANCHES,)
UNJOINED = (when.NO_CONFLICT, when.NO_BRANCHES, *TRAINED)
UNTAUGHT = (when.NO_PUPILS, when.NO_LESSON, *TRAINED)
GRAPHLESS = (when.NO_GPU, when.SEVERAL_PASSES, when.RECOMPUTING, when.SEVERAL_PROCESSES, *TRAINED)
DENSE = (when.NO_RATES, when.TUNING, when.DENSE_IN_HALF, when.DENSE_ON_GPU)
EXACT = (when.NO_RATES_TO_ROUND, when.TUNING, when.EVALUATING_IN_FP32)


def texts_of(table: Mapping[str, Any]) -> str:
    """The help of a flag that names a row of this table."""
    return "; ".join(f"{name}: {row.text}" for name, row in table.items())


# By their headings in --help. --cuda_graph replays the same kernels, so it is no part of what a run
# is; --compile and --sparse bring others, which round otherwise.
SHARED = {
    "run": (
        Flag("seed", Whole(0, 2**32 - 1), OWN, TRAINING, idle=TRAINED).means(
            "seed of weights, order and augmentation"
        ),
        Flag("dataset", FlagKind(), OWN, DATA).means("data set"),
        Flag("data_path", Location(), Path("data"), CIRCUMSTANCE, "FOLDER").means(
            "where the data set lies"
        ),
        Flag("log_path", Location(), Path("runs"), CIRCUMSTANCE, "FOLDER", FOLDERLESS).means(
            "where each run makes its own folder; made if it is not there"
        ),
        Flag("resume", Or(Location(), "auto"), None, CIRCUMSTANCE, "FILE|auto", TRAINED).means(
            "go on with this checkpoint, in its run folder and with its flags (another --num_epoch "
            "may be given); 'auto': with the newest run of the same arguments below log_path, or a "
            "new one if there is none; a file outside a run folder is taken for --init; default: a "
            "new run"
        ),
        Flag("init", Location(), None, TRAINING, "FILE", KEPT).means(
            "begin a new run with the weights in this file, a checkpoint or a published "
            "model_weights.pth; heads of other classes start fresh; default: random weights"
        ),
        Flag("changed_data", Switch(), False, CIRCUMSTANCE, idle=(when.NO_RESUME, *TRAINED)).means(
            "go on with --resume though the number of training samples is another by now; an "
            "epoch in progress begins anew"
        ),
        Flag("evaluate", Location(), None, CIRCUMSTANCE, "FILE").means(
            "print the accuracy of every head of this checkpoint, built by its flags, and exit; "
            "default: train"
        ),
        Flag("tune", Switch(), False, CIRCUMSTANCE, idle=TRAINED).means(
            "time a step of this training on this machine in every way that --compile, --sparse "
            "and --amp offer, say which is the quickest, and train nothing; of --resume FILE only "
            "the flags are read"
        ),
        Flag("device", FlagKind(), None, CIRCUMSTANCE).means(
            "cpu, cuda or cuda:N; default: cuda if there is one"
        ),
        Flag("dist_timeout", MINUTES, 10, CIRCUMSTANCE, "MINUTES", (when.ONE_PROCESS,)).means(
            "how long one of several processes waits for another before giving up"
        ),
        Flag("num_workers", Whole(0, 1024), OWN, LOOP, "PROCESSES").means(
            "processes that load training images, and test images from files; 0: none beside the "
            "training one"
        ),
        Flag("eval_every", Whole(1), 1, LOOP, "EPOCHS", KEPT).means(
            "evaluate after every so many epochs, and after the last; only these can be the best"
        ),
        Flag("checkpoint_every", Whole(1), None, LOOP, "STEPS", KEPT).means(
            "save every so many steps too; default: only after each epoch"
        ),
        Flag("keep_checkpoints", Whole(1), 2, LOOP, "FILES", KEPT).means(
            "newest checkpoints kept, beside the best"
        ),
    ),
    "network": (
        Flag("arch", OneOf(MODELS), OWN, NETWORK).means("network"),
        Flag("method", OneOf(METHODS), "esd", METHOD).means(texts_of(METHODS)),
        Flag("width", Or(Whole(1, 2**16), none=("paper",)), None, NETWORK, "CHANNELS").means(
            "channels of the stem; default: 'paper', 64, and 128 for resnet19"
        ),
        Flag("stem", OneOf(STEMS), "published", NETWORK).means(
            "small: for images of 32 to 64 pixels, a 3x3 convolution where the published stem of "
            "a preact_, sew_ or ms_resnet shrinks images of 224"
        ),
        Flag("branch_pool", WINDOW, "default", METHOD, "PIXELS|global|default", BRANCHLESS).means(
            "side of the branches' pooling window; default: the published one"
        ),
        Flag("branch_gradient", OneOf(BRANCH_GRADIENTS), "joined", METHOD, idle=UNJOINED).means(
            texts_of(BRANCH_GRADIENTS)
        ),
    ),
    "neuron": (
        Flag("T", Whole(1), OWN, NETWORK, "STEPS").means("time steps of each image"),
        Flag("T_min", LEAST, None, TRAINING, "STEPS", (when.NOTHING_TO_DRAW, *TRAINED)).means(
            "train each batch at a number of time steps drawn from this one to T: early answers "
            "become good, and training cheaper (not from the paper); default: 'none', always T"
        ),
        Flag("decay", Real(0, 1), 0.2, NETWORK, "SHARE").means(
            "share of the membrane potential kept per time step, 0 to 1"
        ),
        Flag("thresh", POSITIVE, 1.0, NETWORK, "POTENTIAL").means(
            "firing threshold, in the unit of the membrane potential"
        ),
        Flag("v_reset", Or(Real(), none=("none", "soft")), None, NETWORK, "POTENTIAL").means(
            "potential after a spike, below thresh; default: 'none', the threshold is subtracted "
            "(soft reset)"
        ),
        Flag("detach_reset", Switch(), True, METHOD, idle=RESETLESS).means(
            "gradients ignore the reset"
        ),
    ),
    "training": (
        Flag("train_batch_size", Whole(1), OWN, TRAINING, "IMAGES", TRAINED).means(
            "images per step, over all processes"
        ),
        Flag("accum", Whole(1), 1, TRAINING, "PARTS", TRAINED).means(
            "take the images of a step in so many parts, which saves memory; batch norm then sees "
            "one part at a time"
        ),
        Flag("sync_bn", Switch(), False, TRAINING, idle=(when.ONE_PROCESS, *TRAINED)).means(
            "batch norms see the images of all processes as one batch, not each its own"
        ),
        Flag("val_batch_size", Whole(1), OWN, LOOP, "IMAGES").means(
            "images per step of an evaluation, over all processes"
        ),
        Flag("num_epoch", Whole(1), OWN, TRAINING, "EPOCHS", TRAINED).means(
            "passes over the training set"
        ),
        Flag("optim", OneOf(OPTIMIZERS), "SGDM", TRAINING, idle=TRAINED).means(
            "optimizer; SGDM: momentum 0.9"
        ),
        Flag("lr", POSITIVE, OWN, TRAINING, "RATE", TRAINED).means(
            "initial learning rate, per step"
        ),
        Flag("wd", Real(0), OWN, TRAINING, "RATE", TRAINED).means(
            "weight decay, per step (not on biases and batch norms)"
        ),
        Flag("scheduler", OneOf(SCHEDULERS), "COSINE", TRAINING, idle=TRAINED).means(
            "COSINE: learning rate to 0 over num_epoch"
        ),
        Flag("warmup", Real(0), 0.0, TRAINING, "EPOCHS", TRAINED).means(
            "raise the learning rate from 0 to the schedule's, step by step, over so many first "
            "epochs, such as 0.5 (not from the paper)"
        ),
        Flag("clip_norm", LIMIT, None, TRAINING, "NORM", TRAINED).means(
            "scale the gradient of all parameters together down to this L2 norm where it is larger "
            "(not from the paper); default: 'none', it is taken as it is"
        ),
        Flag("label_smoothing", PART_BELOW_ALL, 0.0, TRAINING, "SHARE", TRAINED).means(
            "share of each label that is spread evenly over the classes, in the cross-entropies of "
            "all heads (not from the paper)"
        ),
        Flag("ema", DECAY, None, TRAINING, "DECAY", TRAINED).means(
            "average the weights over the steps, each of which keeps this share of the average, "
            "such as 0.999 (less in the first steps); the averaged network is evaluated beside the "
            "other and saved as ema.pt (not from the paper); default: 'none'"
        ),
        Flag("alp", Real(0), OWN, TRAINING, "WEIGHT", (when.NO_BRANCHES, *TRAINED)).means(
            "weight of the branches' cross-entropies"
        ),
        Flag("beta", Real(0), OWN, TRAINING, "WEIGHT", (when.NO_PUPILS, *TRAINED)).means(
            "weight of the distillation terms"
        ),
        Flag("teacher", OneOf(TEACHERS), "reliable", TRAINING, idle=UNTAUGHT).means(
            f"{texts_of(TEACHERS)}; default: %(default)s, the paper's"
        ),
        Flag("amp", OneOf(PRECISIONS), "none", TRAINING, idle=EXACT).means(texts_of(PRECISIONS)),
        Flag("tf32", Switch(), True, TRAINING, idle=(when.IN_BF16, when.NO_GPU)).means(
            "a GPU's convolutions read fp32 numbers rounded to TF32 (10 bits of mantissa), as is "
            "default in PyTorch and was in the published code; all else stays fp32"
        ),
        Flag("compile", Switch(), False, METHOD, idle=(when.NO_RATES, *KEPT)).means(
            "neurons and norms through torch.compile; on a CPU it needs a C++ compiler; where it "
            "fails they run uncompiled, and a line says why"
        ),
        Flag("cuda_graph", Switch(), True, LOOP, idle=GRAPHLESS).means(
            "on a GPU, record a whole step once as a CUDA graph and replay it by one launch; a "
            "step's memory stays reserved for it"
        ),
        Flag("sparse", Switch(), False, METHOD, idle=DENSE).means(
            "on a CPU, keep spikes as bytes and, wherever that takes less time, skip silent inputs "
            "of convolutions, in training and evaluation, and compute gradients of 3x3 ones with "
            "up to four times fewer products; the same up to rounding; needs a C++ compiler"
        ),
        Flag("val_fraction", FRACTION, None, DATA, "FRACTION", TRAINED).means(
            "part of the training set held out to select the best epoch, above 0 and below 1; "
            "default: 'none', it is chosen on the test set, as published"
        ),
        Flag("train_per_class", LEAST, None, DATA, "SAMPLES", TRAINED).means(
            "train on so many samples of each class, drawn by --seed from what --val_fraction "
            "leaves (not from the paper); default: 'none', all"
        ),
        Flag("label_noise", PART_BELOW_ALL, 0.0, DATA, "SHARE", TRAINED).means(
            "share of the training labels that become another class, drawn by "
            "--seed; validation and test keep theirs (not from the paper)"
        ),
    ),
}
