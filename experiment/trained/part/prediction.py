"""What a network says about a file, and how it is printed: for people, or for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from util.figure import csv_lines


class Guess(NamedTuple):
    """A class, and its probability as the network gives it."""

    label: str
    confidence: float


class Prediction(NamedTuple):
    """The answer for one file.

    guesses: the most probable classes, best first; steps: time steps computed, of T.
    """

    path: Path
    guesses: tuple[Guess, ...]
    steps: int
    T: int

    @property
    def label(self) -> str:
        return self.guesses[0].label

    @property
    def confidence(self) -> float:
        return self.guesses[0].confidence


def as_text(answer: Prediction) -> str:
    """A line."""
    others = ", ".join(f"{label} ({confidence:.3f})" for label, confidence in answer.guesses[1:])
    then = f"; then {others}" if others else ""
    steps = f"{answer.steps} of {answer.T} steps"
    return f"{answer.path}: {answer.label}, confidence {answer.confidence:.3f}, {steps}{then}\n"


def as_json(answer: Prediction) -> str:
    """An object in a line, in ASCII, so that lines may be read as they come."""
    guesses = [{"class": label, "confidence": value} for label, value in answer.guesses]
    about = {"file": str(answer.path), "classes": guesses, "steps": answer.steps, "T": answer.T}
    return json.dumps(about) + "\n"


def as_csv(answer: Prediction) -> str:
    """A row for each guess, by rank."""
    return csv_lines(
        (answer.path, rank, *guess, answer.steps, answer.T)
        for rank, guess in enumerate(answer.guesses, 1)
    )


class Form(NamedTuple):
    """head: what precedes all answers; text_of: an answer in whole lines."""

    head: str
    text_of: Callable[[Prediction], str]


FORMS = {
    "text": Form("", as_text),
    "json": Form("", as_json),
    "csv": Form(csv_lines([("file", "rank", "class", "confidence", "steps", "T")]), as_csv),
}
