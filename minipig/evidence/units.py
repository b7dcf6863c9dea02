"""Work units: each is computed once, named by the hash of all that decides it, and saved whole.

A unit leaves a small *record* (numbers, in a JSON file for each fold, to be committed) and may leave something heavy, weights
or samples, in a working folder. A record that is there is never computed again, so the heavy part may be thrown away.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Callable

from ..files import write_json


def digest(key: dict) -> str:
    """Twelve hexadecimal digits that depend on everything in `key`, a dictionary of plain values."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


class Records:
    """The records of one fold: {unit's name: {"key": digest, "seconds": seconds, ...}} in the JSON file `path`."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.units: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); restore or delete it") from error

    def find(self, name: str, key: str) -> dict | None:
        """The unit's record if it was made under this key."""
        record = self.units.get(name)
        return record if record and record["key"] == key else None

    def make(self, name: str, key: str, work: Callable[[], dict], again: bool = False) -> dict:
        """The unit's record. work() makes it where it is not there, or if it is to be made `again`; what it returns is saved,
        with the seconds that it took."""
        if (record := self.find(name, key)) and not again:
            return record
        start = time.monotonic()
        made = work()
        self.units[name] = {"key": key, "seconds": round(time.monotonic() - start, 1)} | made
        write_json(self.path, self.units)
        return self.units[name]
