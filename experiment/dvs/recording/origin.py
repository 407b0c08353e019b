"""What the frames in a folder were made from: whether those of one's own recordings are theirs.

Beside the frames lies each recording's size and time of change, and the sensor. Frames of
recordings that have changed since, or that are gone, are dropped, and made anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from experiment.dvs.recording.source import DataSource
from util.file.atomic import write_atomically

MADE_FROM = "recordings.json"


def made_from(frames: Path) -> dict | None:
    """The files and the sensor of the frames in a folder; None if there are none.

    Raises: ValueError if the folder has frames and does not say of what.
    """
    try:
        if not any(frames.rglob("*.npz")):
            return None
        content = json.loads((frames / MADE_FROM).read_bytes())
        return {"sensor": content["sensor"], "files": dict(content["files"])}
    except FileNotFoundError:
        if not frames.is_dir():  # another process has renamed it
            return None
        problem = f"has no {MADE_FROM}"
    except (ValueError, LookupError, TypeError):
        problem = f"has a damaged {MADE_FROM}"
    raise ValueError(f"{frames} {problem}, so its frames may be of anything: delete the folder")


def is_current(source: DataSource, frames: Path) -> bool:
    """Whether the frames in a folder, or those there so far, are of the recordings as they are."""
    return made_from(frames) == _description(source)


def drop_outdated(source: DataSource, frames: Path) -> None:
    """Leave only frames of recordings as they are by now, and say so in the folder."""
    known = made_from(frames) or {"sensor": None, "files": {}}
    same_sensor = known["sensor"] == list(source.sensor)
    for name, state in known["files"].items():
        if not same_sensor or source.files.get(name) != state:
            (frames / name).with_suffix(".npz").unlink(missing_ok=True)
    write_atomically(frames / MADE_FROM, json.dumps(_description(source)).encode())


def _description(source: DataSource) -> dict:
    return {"sensor": list(source.sensor), "files": source.files}
