"""What a row of METHODS says of itself."""

from model.method import METHODS, Method
from model.rate_pair import RatePair


def test_which_methods_flow_through_rates():
    assert [name for name, row in METHODS.items() if row.by_rates] == ["esd", "rate"]


def test_a_subclass_of_the_pair_flows_through_rates():
    class Own(RatePair):
        """As somebody's own method would have."""

    assert Method("a variant", Own).by_rates
