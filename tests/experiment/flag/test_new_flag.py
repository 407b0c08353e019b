"""A flag is one row: everything else that knows flags knows a new one at once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# In a process of its own: the rows are there before anything is made of them.
PROGRAM = """
from types import SimpleNamespace
from experiment.flag import idle, table
from experiment.flag.kinds import Whole
from experiment.flag.row import IDENTITY, Flag, Role

NAMES = {role: f"new_{role.name.lower()}" for role in Role}
table.SHARED["training"] += tuple(
    Flag(name, Whole(1), 7, role, "UNITS", (idle.EVALUATING,)).means(f"what {name} is")
    for role, name in NAMES.items()
)

from experiment.cifar.config.config import get_parser
from experiment.flag.document import flags_document
from experiment.flag.identity import differences
from experiment.flag.values import network_arguments, recipe_of, request_of
from experiment.trained.part.card import recipe
from tests.fault.argument import VALUED, values_to_try

words = [word for name in NAMES.values() for word in (f"--{name}", "8")]
args = get_parser().parse_args(words)
request, network, values = request_of(args), network_arguments(args), vars(recipe_of(args))
card = recipe(SimpleNamespace(arguments=vars(args), data=None, averaged=False))
before = {k: v for k, v in request.identity.items() if k not in NAMES.values()}
assert differences(before, request.identity) == sorted(
    f"{NAMES[role]} 7 (asked for: 8)" for role in IDENTITY
)
for role, name in NAMES.items():
    assert getattr(args, name) == request.arguments[name] == 8
    assert f"--{name} UNITS" in get_parser().format_help()
    assert f"what {name} is" in flags_document()
    assert (name in request.identity) == (role in IDENTITY)
    assert (network.get(name) == 8) == (role in (Role.NETWORK, Role.METHOD))
    assert (values.get(name) == 8) == (role in (Role.TRAINING, Role.LOOP))
    assert (card.get(name) == 8) == (role in (Role.DATA, Role.METHOD, Role.TRAINING))
    (flag,) = [flag for flag in VALUED if flag.name == name]
    right, wrong = values_to_try(flag)
    assert "2" in right and "0" in wrong
get_parser().parse_args([*words, "--evaluate", "x"])
"""


def test_one_row_is_enough():
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: no effect of --new_data, --new_network, --new_method, ")
