"""What a reader of broken disks is asked, whichever it is: a path a line comes in, a verdict a line goes out.

Interface:
    serve(look, typed)    look(path) reads the disk at `path`; `typed` are the exceptions that its documents promise
A verdict is "read", "refused", or the name of an exception that nobody promised. To hang and to crash is for the
caller to see.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

MOST_NAMES = 2000  # of one disk: broken directories may lead in circles, and everyone's walk ends here
PIECE = 1 << 16  # bytes that are read at the start and at the end of each file


def serve(look: Callable[[str], None], typed: type[Exception] | tuple[type[Exception], ...]) -> None:
    """Until the input ends."""
    for line in sys.stdin:
        try:
            look(line.rstrip("\n"))
            verdict = "read"
        except typed:
            verdict = "refused"
        except Exception as error:
            verdict = type(error).__name__
        print(verdict, flush=True)
