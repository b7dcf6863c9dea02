"""Work units: each is computed once, keyed by the hash of the settings that decide it, and saved whole.

A unit leaves a small *record* (numbers, in a JSON file for each fold, to be committed) and may leave something heavy, weights
or samples, in a working folder. A record that is there is never computed again, so the heavy part may be thrown away. The
code is not in the hash; each record names the commit that made it.
"""

import hashlib
import json
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Callable

from ..files import held, write_json


def digest(key: dict) -> str:
    """Twelve hexadecimal digits that depend on everything in `key`, a dictionary of plain values."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


@cache
def commit() -> str | None:
    """The commit of the code at work, with a + if the package has been changed since; None outside a checkout."""

    def git(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *words], cwd=Path(__file__).parents[1], capture_output=True, text=True)

    try:
        head = git("rev-parse", "HEAD").stdout.strip()
    except OSError:  # no git here
        return None
    return head + "+" * (git("diff", "--quiet", "HEAD", "--", ".").returncode == 1) if head else None


class Records:
    """The records of one fold: {unit: {"key": digest, "commit": commit, "seconds": seconds, ...}} in the file `path`."""

    def __init__(self, path: Path):
        self.path = path
        self.units = self.read()

    def read(self) -> dict[str, dict]:
        """What is in the file. Raises ValueError if it is damaged."""
        try:
            return json.loads(self.path.read_text()) if self.path.exists() else {}
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}); restore or delete it") from error

    def find(self, name: str, key: str) -> dict | None:
        """The unit's record if it was made under this key."""
        record = self.units.get(name)
        return record if record and record["key"] == key else None

    def make(
        self, name: str, key: str, work: Callable[[], dict], again: bool = False, checkpoint: Path | None = None
    ) -> dict:
        """The unit's record. work() makes it where it is not there, or if it is to be made `again`; what it returns is saved,
        with the seconds that it took and the code's commit; then its `checkpoint` is removed."""
        if (record := self.find(name, key)) and not again:
            return record
        start, code = time.monotonic(), commit()
        made = work()
        record = self.keep(name, {"key": key, "commit": code, "seconds": round(time.monotonic() - start, 1)} | made)
        if checkpoint:
            checkpoint.unlink()
        return record

    def keep(self, name: str, record: dict) -> dict:
        """The record, saved as that of the unit `name`."""
        with held(self.path, wait=True):
            self.units = self.read() | {name: record}  # another process may have added to the file meanwhile
            write_json(self.path, self.units)
        return record
