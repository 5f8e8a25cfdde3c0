"""The option --trace of machsim's subcommands.

Interface:
    tracing(runtime, path)    a context manager: the runtime, traced into the file if there is to be one

Not here: what is traced (mach/trace.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from mach.threads import Runtime
from mach.threads.traced import traced


@contextmanager
def tracing(runtime: Runtime, path: str | None) -> Iterator[Runtime]:
    try:
        runtime = traced(runtime, path, "machine")
    except OSError as error:
        raise click.ClickException(f"cannot write the trace to {path}: {(error.strerror or '').lower()}") from None
    try:
        yield runtime
    finally:
        if runtime.tracer is not None:
            runtime.tracer.close()
