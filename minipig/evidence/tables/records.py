"""Records: numbers that are computed once, under the hash of the settings that decide them.

Each fold has a JSON file of them, which is committed. The weights and samples behind a record may
be deleted. The hash does not cover the code; each record names the commit that made it.
"""

import hashlib
import json
import subprocess
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from minipig.data.files import locked, write_json

PACKAGE = Path(__file__).parents[2]


def digest(key: dict) -> str:
    """The first twelve hexadecimal digits of the hash of `key`, a dictionary of plain values."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


@cache
def commit() -> str | None:
    """The commit of the code, with a + if the package has changed since.

    None without git, and for a package that is installed and no part of a repository.
    """

    def git(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True)

    try:
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        head = git("rev-parse", "HEAD").stdout.strip()
    except OSError:  # git is not installed
        return None
    changed = git("diff", "--quiet", "HEAD", "--", ".").returncode == 1
    return head + "+" * changed if head else None


class Records:
    """The records of one fold, in the JSON file `path`.

    {name: {"key": digest, "commit": commit, "seconds": seconds, ...}}
    """

    def __init__(self, path: Path):
        self.path = path
        self.units = self.read()

    def read(self) -> dict[str, dict]:
        """The content of the file. Raises ValueError if it is damaged."""
        try:
            return json.loads(self.path.read_text()) if self.path.exists() else {}
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}); restore or delete it") from error

    def find(self, name: str, key: str) -> dict | None:
        """The record `name` if it was made under this key, else None."""
        if self.units.get(name, {}).get("key") != key:
            self.units = self.read()  # another process may have added it
        record = self.units.get(name)
        return record if record and record["key"] == key else None

    @contextmanager
    def making(self, name: str, key: str):
        """The record `name` for this block to fill in; saved after it, with the block's seconds."""
        record = {"key": key, "commit": commit(), "seconds": 0.0}
        start = time.monotonic()
        yield record
        record["seconds"] = round(time.monotonic() - start, 1)
        self.save(name, record)

    def save(self, name: str, record: dict) -> None:
        """Write `record` into the file as `name`."""
        with locked(self.path, wait=True):
            self.units = self.read() | {name: record}  # another process may have added records
            write_json(self.path, self.units)
