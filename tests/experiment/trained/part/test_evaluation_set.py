"""How much of a test set is looked at, and whose files a results folder holds."""

import pytest

from experiment.trained.part.checkpoint_command import Results
from experiment.trained.part.evaluation_set import EvaluationSet
from tests.support.micro_training import ONE_PROCESS, micro_data


def test_a_default_is_at_most_all_and_more_than_there_are_is_refused():
    tests = EvaluationSet(micro_data(), ONE_PROCESS)  # 13 images
    cases = {(None, 64): 13, (None, 8): 8, (None, None): 13, (11, 8): 11}
    for (asked, default), expected in cases.items():
        chosen = tests.first(asked, default)
        assert chosen.samples == sum(len(labels) for _, labels in chosen.batches()) == expected
    with pytest.raises(ValueError, match="--gradient_images 14: the test set has only 13"):
        tests.first(14, 64, flag="gradient_images")


def test_products_of_an_earlier_call_are_removed_and_nothing_else(tmp_path):
    results = Results(tmp_path, ("a.png", "log.*.ours"))
    for name in ("a.png", "log.1.ours", "log.1.theirs", "b.png"):
        (tmp_path / name).touch()
    results.make_room(remove=True)
    assert {path.name for path in tmp_path.iterdir()} == {"log.1.theirs", "b.png"}
    for name in ("log.2.ours", "a.png"):
        (tmp_path / name).touch()
    assert [p.name for p in results.written()] == ["a.png", "log.2.ours"]
