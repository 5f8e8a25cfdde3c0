"""The command makeboot: a kernel and its bootstrap task glued into one boot file, or what is inside of one (mach.md 6).

Interface: main, a click command. Exit 0 done, 1 refused or failed with one line on stderr, 2 usage.
Invariants:
    1. The boot file is made under a temporary name beside the output and renamed when it is whole: a full disk or a
       bad input leaves what was there.
Not here: the formats (mach/aout.py, mach/boot_image.py).
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from dataclasses import asdict
from typing import Any, NoReturn

import click

from disktools.errors import Refusal
from mach.aout import Executable, NotExecutable
from mach.boot_image import BadBootImage, BootImage, dissect, glue, symbols_in

MAX_EXECUTABLE_BYTES = 1 << 28  # what is loaded into memory whole must fit there; it also bounds what we read
MODE = 0o777  # less the umask: an executable, as ld makes one

EPILOG = """\b
Examples:
  makeboot -o mach.boot mach_kernel bootstrap
  makeboot --show mach.boot"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("files", nargs=-1, metavar="KERNEL BOOTSTRAP", type=click.Path())
@click.option("-o", "--output", default="mach.boot", show_default=True, metavar="FILE", type=click.Path())
@click.option("-s", "--no-header", is_flag=True, help="Leave the a.out header out, for a boot program that adds one.")
@click.option("--show", metavar="FILE", type=click.Path(), help="Draw what is inside the boot file FILE; make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager", prog_name="makeboot")
def main(files: tuple[str, ...], output: str, no_header: bool, show: str | None, as_json: bool) -> None:
    """Glue the executables KERNEL and BOOTSTRAP into a file that a boot program loads as one.

    Both are a.out executables (0407, 0410 or 0413) for the i386.  The kernel finds the bootstrap behind its own data,
    and maps it into the first task.
    """
    if show is not None and files:
        raise click.UsageError("--show takes no KERNEL and BOOTSTRAP")
    if show is None and len(files) != 2:
        raise click.UsageError("give two executables, KERNEL and BOOTSTRAP, or --show FILE")
    try:
        facts = _show(show) if show is not None else _make(files[0], files[1], output, not no_header)
    except (Refusal, NotExecutable, BadBootImage) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or output}: {(error.strerror or 'failed').lower()}")
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(_drawing(facts)))


def _fail(line: str) -> NoReturn:
    click.echo(f"makeboot: {' '.join(line.split())}", err=True)
    sys.exit(1)


def _make(kernel_path: str, bootstrap_path: str, output: str, header: bool) -> dict[str, Any]:
    kernel, bootstrap = _executable(kernel_path), _executable(bootstrap_path)
    content = glue(kernel, bootstrap, header)
    _write(output, content)
    facts = _facts(output, content)
    facts["executables"] = {
        name: asdict(executable.sizes()) for name, executable in (("kernel", kernel), ("bootstrap", bootstrap))
    }
    return facts


def _executable(path: str) -> Executable:
    """Refusal: no file that may be executed; NotExecutable: none of Mach's."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(f"{path}: not an executable file: it is no regular file")
    if not status.st_mode & 0o111:
        raise Refusal(f"{path}: not an executable file: nobody may execute it; chmod +x it if it is one")
    if status.st_size > MAX_EXECUTABLE_BYTES:
        raise Refusal(f"{path}: {status.st_size} bytes are too large for a boot file")
    with open(path, "rb") as file:
        content = file.read()
    try:
        return Executable.parse(content, path)
    except NotExecutable as error:
        raise NotExecutable(f"{path}: not an executable file: {error}") from None


def _write(output: str, content: bytes) -> None:
    """Invariant 1.  OSError also for what only fsync brings to light: Mach's makeboot asked after no write."""
    path = os.path.realpath(output)
    if os.path.exists(path) and not os.path.isfile(path):
        raise Refusal(f"{output}: not a regular file; choose another output")
    descriptor, temporary = tempfile.mkstemp(prefix=".makeboot-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), MODE & ~mask)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _show(path: str) -> dict[str, Any]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(f"{path}: not a regular file")
    if status.st_size > 3 * MAX_EXECUTABLE_BYTES:
        raise Refusal(f"{path}: {status.st_size} bytes are too large for a boot file")
    with open(path, "rb") as file:
        content = file.read()
    return _facts(path, content)


def _facts(path: str, content: bytes) -> dict[str, Any]:
    try:
        image = dissect(content)
    except BadBootImage as error:
        raise BadBootImage(f"{path}: {error}") from None
    return {
        "file": path,
        "size": len(content),
        "entry": image.entry,
        "sections": [{"name": name, "offset": offset, "size": size} for name, offset, size in image.sections()],
        "boot_info": {
            "offset": image.info.offset,
            "sym_size": image.info.sym_size,
            "boot_size": image.info.boot_size,
            "load_info_size": image.info.load_info_size,
        },
        "load_info": asdict(image.load_info),
        "symbols": _symbol_counts(image),
    }


def _symbol_counts(image: BootImage) -> dict[str, int]:
    load = image.load_info
    bootstrap = image.bootstrap[load.sym_offset : load.sym_offset + load.sym_size]
    return {
        "kernel": sum(1 for _ in symbols_in(image.kernel_symbols)),
        "bootstrap": sum(1 for _ in symbols_in(bootstrap)),
    }


def _drawing(facts: dict[str, Any]) -> list[str]:
    """The file from top to bottom, and what its two structures say."""
    entry = "no header" if facts["entry"] is None else f"kernel entry {facts['entry']:#x}"
    lines = [f"{facts['file']}: {facts['size']} bytes, {entry}", ""]
    rule = "          +" + "-" * 24 + "+"
    for section in facts["sections"]:
        lines += [rule, f"{section['offset']:>9} | {section['name']:<22} | {section['size']:>8} bytes"]
    lines += [rule, f"{facts['size']:>9}", ""]
    load, symbols = facts["load_info"], facts["symbols"]
    lines.append(f"symbols:   {symbols['kernel']} of the kernel, {symbols['bootstrap']} of the bootstrap")
    lines.append(
        f"bootstrap: text {load['text_start']:#x} - {load['text_start'] + load['text_size']:#x}, "
        f"data {load['data_start']:#x} - {load['data_start'] + load['data_size']:#x}, "
        f"BSS {load['bss_size']} bytes, entry {load['entry_1']:#x}"
    )
    for name, sizes in facts.get("executables", {}).items():
        row = ", ".join(f"{part} {size}" for part, size in sizes.items())
        lines.append(f"{name + ':':<10} {row}")
    return lines


if __name__ == "__main__":
    main()
