"""Standard output and error that a command outlasts: their reader may go, their disk be full."""

import os
import sys
from typing import TextIO


class Lasting:
    """A stream of a command, which goes on when the stream can be written no more; it says so."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        return self._try(self.stream.write, text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act, *text: str):
        try:
            return act(*text)
        except OSError as error:
            with open(os.devnull, "w") as nowhere:  # takes all that comes, and what is left inside
                os.dup2(nowhere.fileno(), self.stream.fileno())
            problem = f"the output cannot be written any more ({error.strerror})"
            print(f"minipig: {problem}; the command goes on without it", file=sys.stderr)
            return sum(map(len, text))

    def __getattr__(self, name: str):
        return getattr(self.stream, name)
