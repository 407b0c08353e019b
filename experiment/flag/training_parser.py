"""The parser of the training commands."""

from __future__ import annotations

import argparse
from typing import Any

from experiment.flag.parser import FlagParser
from experiment.flag.saved import begin_with_loose_file, flags_of_named_run
from util.checkpoint import CheckpointError


class TrainingParser(FlagParser):
    """Flags that are not given are those of the run whose checkpoint --evaluate or --resume names.

    A checkpoint that cannot say them ends the program as a wrong flag does.
    """

    def implied(self, parsed: argparse.Namespace, given: set[str]) -> dict[str, Any]:
        try:
            begin_with_loose_file(parsed)
            return flags_of_named_run(parsed, self.flags(), given)
        except CheckpointError as error:
            self.exit(2, f"error: {error}\n")
