"""The command mkpagingfile: a disk with a paging file on it, or a paging file on the disk there is.

Interface: main, a click command. Exit 0 done, 1 refused or failed with one line on stderr, 2 usage.
Invariants:
    1. A new disk is made under a temporary name beside IMAGE and renamed when it is whole.
    2. A refusal leaves IMAGE as it was, or absent.
Not here: any knowledge of file systems; this module knows files of the host, the clock and the terminal.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from bootfs.device import BlockDevice, Claim, FileDevice, SliceDevice
from bootfs.disk import open_file_system
from bootfs.errors import FileSystemError, FsCode
from bootfs.filesystem import FileSystem
from bootfs.layout import ByteOrder
from bootfs.superblock import Format
from disktools.errors import Refusal
from disktools.geometry_ufs import default_sizes
from disktools.growth import plan_growth
from disktools.newfs import NewFileSystem
from disktools.paging_file import DEFAULT_PATH, PagingFile, Plan, parse_path, plan_in_existing, plan_new_disk
from disktools.sizes import format_size, parse_size
from disktools.write_plan import Progress

LONG_BYTES = 128 << 20  # writing more than this may take over a second
NEW_DISK_ONLY = {
    "size": "--size",
    "source": "--from",
    "format": "--format",
    "byte_order": "--byte-order",
    "block_size": "--block-size",
    "fragment_size": "--fragment-size",
}


def _size(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """64M, 64MiB, 1G or bytes, as bytes."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@dataclass(frozen=True, slots=True)
class Request:
    """The command line."""

    image: str
    size: int
    wanted: PagingFile
    format: Format
    byte_order: ByteOrder
    block_size: int | None
    fragment_size: int | None
    source: str | None
    offset: int | None
    partition: str | None
    grow: bool
    dry_run: bool
    time: int

    @property
    def new(self) -> NewFileSystem:
        """The fragments of blocks that were asked for are an eighth of them, or what the defaults have."""
        block, fragment = default_sizes(self.format, self.size)
        if self.block_size is not None:
            block, fragment = self.block_size, max(self.block_size // 8, min(fragment, self.block_size))
        if self.fragment_size is not None:
            fragment = self.fragment_size
        return NewFileSystem(self.size, block, fragment, self.byte_order, format=self.format)

    @property
    def tree(self) -> bytes | None:
        return None if self.source is None else os.fsencode(self.source)


EPILOG = """\b
Examples:
  mkpagingfile disk.img --size 64M --paging-size 32M --from tree/
  mkpagingfile old-disk.img --paging-size 256K
  mkpagingfile disk.img --grow --paging-size 48M && pagerctl --socket /tmp/pager.sock grow disk.img
  mkpagingfile disk.img --size 1T --paging-size 8G --format ufs2 --byte-order big
SOURCE_DATE_EPOCH (seconds since 1970), when set, is the time of everything, so that images come out identical."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("image", type=click.Path())
@click.option("--size", callback=_size, metavar="SIZE", default="64M", show_default=True, help="Size of a new disk.")
@click.option(
    "--paging-size",
    callback=_size,
    metavar="SIZE",
    default="32M",
    show_default=True,
    help="Rounded up to whole blocks.",
)
@click.option("--format", type=click.Choice(["4.3bsd", "ufs1", "ufs2"]), default="4.3bsd", show_default=True)
@click.option("--byte-order", type=click.Choice(["little", "big"]), default="little", show_default=True)
@click.option("--block-size", callback=_size, metavar="SIZE", help="8192; 32768 in ufs1 and ufs2 over 8 GiB.")
@click.option("--fragment-size", callback=_size, metavar="SIZE", help="1024; an eighth of larger blocks.")
@click.option("--path", default=DEFAULT_PATH, show_default=True, help="Where; missing directories are made.")
@click.option(
    "--from",
    "source",
    type=click.Path(),
    metavar="DIR",
    help="Copy DIR's tree into a new disk; holes in files stay holes.",
)
@click.option("--offset", callback=_size, metavar="SIZE", help="The file system begins at this byte of IMAGE.")
@click.option("--partition", metavar="NAME", help="The file system is in this partition: a, s1a or 1.")
@click.option("--grow", is_flag=True, help="Make the paging file that is there --paging-size long; a pager may run.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done and do nothing.")
@click.option("-f", "--force", is_flag=True, help="Make a new disk over whatever IMAGE holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
@click.version_option(package_name="mach-default-pager", prog_name="mkpagingfile")
@click.pass_context
def main(context: click.Context, /, force: bool, as_json: bool, path: str, paging_size: int, **options: Any) -> None:
    """Make a disk IMAGE with a paging file on it; or, where IMAGE is a BSD disk already, put the paging file inside it.

    The paging file has full blocks, no holes and no tail, in as few runs as can be, as Mach's default pager wants it.
    Inside an existing disk everything else stays as it was. Without room the disk is not touched.
    """
    try:
        request = Request(wanted=PagingFile(parse_path(path), paging_size), time=_now(), **options)
        given = [name for option, name in NEW_DISK_ONLY.items() if _given(context, option)]
        offset, plan = _run(request, force, given)
    except (Refusal, FileSystemError) as error:
        about = "" if str(error).startswith(options["image"]) else f"{options['image']}: "
        _fail(f"{about}{error}")
    except OSError as error:
        _fail(f"{options['image']}: {error.strerror}")
    facts: dict[str, Any] = {"image": request.image, "dry_run": request.dry_run, "offset": offset}
    facts |= plan.facts()
    for run in facts["runs"]:
        run["device_offset"] += offset
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(facts)


def _given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE


def _fail(line: str) -> NoReturn:
    click.echo(f"mkpagingfile: {' '.join(line.split())}", err=True)
    sys.exit(1)


def _now() -> int:
    """The one clock of these tools. Refusal: SOURCE_DATE_EPOCH is no time that the disk can keep."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return int(time.time())
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise Refusal(f"SOURCE_DATE_EPOCH is {text!r}; it must be seconds since 1970, below 2^31")
    return int(text)


def _run(request: Request, force: bool, given: list[str]) -> tuple[int, Plan]:
    """What is at IMAGE decides: nothing, an FFS, or something else. Also the byte where the file system begins."""
    try:
        status = os.stat(request.image)
    except FileNotFoundError:
        if request.grow:
            raise Refusal("is not there; leave --grow out to make it") from None
        return 0, _new_file(request)
    if force and request.grow:
        raise Refusal("a new disk has nothing to grow; leave -f or --grow out")
    if stat.S_ISBLK(status.st_mode) and force:
        return 0, _over_device(request)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise Refusal("is neither a file nor a block device; give the name of a disk image")
    if force:
        with _opened(request):  # nobody pages on what is replaced
            return 0, _new_file(request)
    with _opened(request) as whole:
        offset, device = _part(whole, request)
        if given:
            raise Refusal(f"holds a file system already, which {given[0]} cannot change; leave it out, or use -f")
        plan = (plan_growth if request.grow else plan_in_existing)(device, request.wanted, request.time)
        if not request.dry_run:
            with _progress(plan) as progress:
                plan.write(device, progress)
    return offset, plan


def _opened(request: Request) -> FileDevice:
    """IMAGE, to be changed by us alone; growing it disturbs no pager. FileSystemError D_ALREADY_OPEN."""
    claim = Claim.ALLOCATION if request.grow else Claim.ALL
    return FileDevice(request.image, writable=not request.dry_run, exclusive=not request.dry_run, claim=claim)


def _part(device: BlockDevice, request: Request) -> tuple[int, BlockDevice]:
    """Where the file system begins on the device, and the device from there on. Refusal: there is none to add to."""
    try:
        found = open_file_system(device, request.partition, request.offset)
    except FileSystemError as error:
        if error.code != FsCode.FS_INVALID_FS:
            raise
        raise Refusal(f"holds no file system to add to ({error}); use -f to make a new disk over it") from error
    if not isinstance(found, FileSystem):
        kind = found.info()["format"]
        raise Refusal(f"holds {kind}, and files can be added only to BSD's; use -f to make a new disk over it")
    offset = found.offset
    return offset, SliceDevice(device, offset, device.size - offset) if offset else device


def _new_file(request: Request) -> Plan:
    """Invariant 1."""
    if request.offset or request.partition:
        raise Refusal("a new disk begins at byte 0; leave --offset and --partition out")
    plan = plan_new_disk(request.new, request.wanted, request.tree, request.time)
    if request.dry_run:
        return plan
    image = os.path.realpath(request.image)
    descriptor, temporary = tempfile.mkstemp(prefix=".mkpagingfile-", dir=os.path.dirname(image))
    try:
        os.ftruncate(descriptor, request.size)
        os.fchmod(descriptor, _mode_of(image))
        os.close(descriptor)
        with FileDevice(temporary, writable=True) as device, _progress(plan) as progress:
            plan.write(device, progress)
        os.rename(temporary, image)
    except BaseException:
        os.unlink(temporary)
        raise
    return plan


def _mode_of(image: str) -> int:
    """What the file has, or what a new one would get."""
    try:
        return stat.S_IMODE(os.stat(image).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _over_device(request: Request) -> Plan:
    with _opened(request) as device:
        if request.size > device.size:
            raise Refusal(f"has only {format_size(device.size)}; give a --size of at most {device.size}")
        plan = plan_new_disk(request.new, request.wanted, request.tree, request.time, zeroed=False)
        if not request.dry_run:
            with _progress(plan) as progress:
                plan.write(device, progress)
    return plan


@contextmanager
def _progress(plan: Plan) -> Iterator[Progress]:
    """A bar on a terminal when there is much to write."""
    length = plan.writes.bytes_to_write()
    if length < LONG_BYTES or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label="writing", file=sys.stderr) as bar:
        update: Callable[[int], object] = bar.update
        yield update


def _print(facts: dict[str, Any]) -> None:
    would = "would be " if facts["dry_run"] else ""
    if facts["created"]:
        click.echo(
            f"{facts['image']}: {would}a new {facts['format']} disk, {facts['byte_order']}-endian, "
            f"{format_size(facts['size'])} in {facts['cylinder_groups']} cylinder groups, "
            f"blocks of {facts['block_size']}, fragments of {facts['fragment_size']}"
        )
    for line in facts["skipped"]:
        click.echo(line)
    if facts["paging_size"] != facts["asked"]:
        click.echo(f"{facts['asked']} bytes are not whole blocks: rounded up to {facts['paging_size']}")
    click.echo(f"{'file offset':>12} {'device offset':>14} {'length':>12}")
    for run in facts["runs"]:
        click.echo(f"{run['file_offset']:>12} {run['device_offset']:>14} {run['length']:>12}")
    count = len(facts["runs"])
    click.echo(
        f"{facts['path']}: {would}{format_size(facts['paging_size'])} in {count} run{'s'[: count != 1]}, "
        f"inode {facts['ino']}; {facts['free_blocks']} blocks stay free"
    )


if __name__ == "__main__":
    main()
