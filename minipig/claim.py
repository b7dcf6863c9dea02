"""A folder of results belongs to one configuration, which is saved in it: what was made with another does not mix in."""

import json
import platform
from pathlib import Path

import torch

from .files import write_json


def claim_folder(folder: Path, config: dict, option: str = "--out") -> None:
    """Make `folder`, given as `option`, home of `config`, or check that it is. Raises ValueError that says what differs."""
    path = folder / "config.json"
    mine = json.loads(json.dumps(config))
    if not path.exists():
        if (folder / "manifest.csv").exists():
            raise ValueError(f"{folder} holds pairs that are not ours; give another {option}")
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        return write_json(path, {"config": mine, "versions": versions})
    try:
        theirs = dict(json.loads(path.read_text())["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no configuration of minipig; give another {option}") from error
    differ = [f"{k} {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in mine | theirs if theirs.get(k) != mine.get(k)]
    if differ:
        raise ValueError(f"{folder} was made with another configuration ({'; '.join(differ)}); give another {option}")
