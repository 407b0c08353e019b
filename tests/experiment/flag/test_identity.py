"""What a run is, which a resumed one must be too."""

import pytest

from experiment.cifar.config.config import get_parser
from experiment.dvs.config import config as dvs
from experiment.flag.identity import differences, refuse_other_arguments
from experiment.flag.table import SHARED
from experiment.flag.values import request_of


def identity(*argv, parser=None):
    return request_of((parser or get_parser()).parse_args(argv)).identity


def test_runs_of_earlier_versions_are_those_of_the_same_flags():
    """What decides numbers. A flag that leaves this list lets runs go on that differ in it."""
    assert " ".join(sorted(identity())) == (
        "T T_min accum alp amp arch auto_aug beta branch_gradient branch_pool channels clip_norm "
        "compile crop cutout dataset decay detach_reset ema flip image_size init label_noise "
        "label_smoothing lr method num_epoch optim scheduler seed sparse split_seed stem sync_bn "
        "teacher test_fraction tf32 thresh train_batch_size train_per_class v_reset val_fraction "
        "warmup wd width"
    )


def test_runs_on_events_have_their_own():
    shared = {flag.name for rows in SHARED.values() for flag in rows}
    own = identity(parser=dvs.get_parser()).keys() - shared
    assert " ".join(sorted(own)) == "event_aug flip sensor shuffle_frames split test_fraction"


@pytest.mark.parametrize("flag", ["--num_workers=3", "--log_path=x", "--device=cuda"])
def test_loop_and_circumstance_do_not_change_what_a_run_is(flag):
    assert identity(flag) == identity() != identity("--lr=0.2")


WANTED = identity("--lr", "0.2")


@pytest.mark.parametrize(
    ("removed", "added", "different"),
    [
        ("", {}, []),
        ("", {"lr": 0.1, "T": 3}, ["T 3 (asked for: 6)", "lr 0.1 (asked for: 0.2)"]),
        ("sparse tf32 branch_pool", {}, []),
        ("lr", {}, ["lr 0.1 (asked for: 0.2)"]),  # its default, the paper's
        ("", {"gone": False}, []),
        ("", {"gone": None}, []),
        ("", {"gone": True}, ["gone True (asked for: none)"]),
        ("", {"gone": 0}, ["gone 0 (asked for: none)"]),
    ],
)
def test_a_saved_run_without_a_flag_has_its_default_and_a_flag_that_is_gone_must_be_off(
    removed, added, different
):
    saved = {name: value for name, value in WANTED.items() if name not in removed.split()} | added
    assert differences(saved, WANTED) == different
    if different:
        with pytest.raises(ValueError) as refusal:
            refuse_other_arguments(saved, WANTED)
        assert all(words in str(refusal.value) for words in different)
    else:
        refuse_other_arguments(saved, WANTED)
