"""`machsim images`: the executables that a machine boots from: a kernel, a bootstrap, and a first server.

Interface:
    images                                     the click command
    kernel_image(), bootstrap_image(), startup_image() -> bytes     a.out executables

Each is a real executable whose text is the code of the Python modules that it stands for, compiled, with all that they
import of ours, and whose symbols are their functions, so that its sizes mean something; at its entry stands its name
for kernel/python_programs.py.  What a machine does with its text is what it would do with machine code, but for
executing it.

Not here: glueing them (disktools/makeboot.py).
"""

from __future__ import annotations

import ast
import marshal
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import click

from kernel.python_programs import program_text
from mach.aout import TEXT_START, Magic, Symbol, SymbolType, make_executable

ROOM_NAMES = ("bootfs", "kernel", "mach", "pager")
ROOMS = Path(__file__).resolve().parent.parent.parent
KERNEL_BASE = 0xC0100000  # linked there, loaded at the same place less 0xC0000000
KERNEL_BSS_BYTES = 64 * 1024  # what a kernel has before it has memory: a stack, page tables
BOOTSTRAP_BSS_BYTES = 4096


def kernel_image() -> bytes:
    """0407 as Mach's was, with the symbols that it finds its own end by."""
    text, symbols = _compiled("kernel", _linked("kernel/host.py", "kernel/bootstrap.py"), KERNEL_BASE)
    data = _names(symbols)
    edata = KERNEL_BASE + len(text) + len(data)
    symbols += [
        Symbol("_edata", edata, SymbolType.DATA),
        Symbol("_end", edata + KERNEL_BSS_BYTES, SymbolType.BSS),
    ]
    return make_executable(Magic.OMAGIC, text, data, KERNEL_BSS_BYTES, symbols, KERNEL_BASE)


def bootstrap_image() -> bytes:
    """The bootstrap service with the default pager and the bootstrap file system, in one task (paper §6)."""
    text, symbols = _compiled("bootstrap", _linked("pager/bootstrap.py"), TEXT_START)
    return make_executable(Magic.NMAGIC, text, _names(symbols), BOOTSTRAP_BSS_BYTES, symbols)


def startup_image() -> bytes:
    text, symbols = _compiled("startup", [Path("kernel/machsim/startup.py")], TEXT_START + 32)
    return make_executable(Magic.ZMAGIC, text, _names(symbols), 0, symbols)


def _linked(*names: str) -> list[Path]:
    """These modules and all of ours that they import, as a linker takes what is referred to."""
    found: dict[Path, None] = {}
    wanted = [Path(name) for name in names]
    while wanted:
        module = wanted.pop()
        if module not in found:
            found[module] = None
            wanted += _imports(ast.parse((ROOMS / module).read_bytes()))
    return sorted(found)


def _imports(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            base = Path(*name.split("."))
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if name.split(".")[0] in ROOM_NAMES and (ROOMS / path).is_file():
                    yield path


def _compiled(name: str, modules: list[Path], base: int) -> tuple[bytes, list[Symbol]]:
    """The text of `name`, and its functions with their addresses, if the text begins at `base`."""
    text = bytearray(program_text(name))
    symbols = [Symbol("start", base)]
    for module in modules:
        source = (ROOMS / module).read_bytes()
        code = compile(source, str(module), "exec", dont_inherit=True, optimize=2)
        body = marshal.dumps(code)
        for function in _functions(code):
            at = body.find(function.co_code)
            if at >= 0:
                symbols.append(Symbol(f"_{function.co_qualname}", base + len(text) + at))
        text += body
    return bytes(text + bytes(-len(text) % 4)), symbols


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)


def _names(symbols: list[Symbol]) -> bytes:
    """Data: the names that the code looks up, one after another."""
    data = b"".join(symbol.name.encode("ascii", "replace") + b"\0" for symbol in symbols)
    return data + bytes(-len(data) % 4)


@click.command(epilog="Example: machsim images boot && makeboot -o mach.boot boot/mach_kernel boot/bootstrap")
@click.argument("directory", metavar="DIRECTORY", type=click.Path())
@click.option(
    "--servers",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Put the i386 programs of FOLDER (NAME.aout, and startup.conf) into the tree, instead of a startup of Python.",
)
@click.version_option(package_name="mach-default-pager")
def images(directory: str, servers: str | None) -> None:
    """Write a kernel, a bootstrap, and a tree for a disk with a first server, into DIRECTORY.

    makeboot glues the first two; mkpagingfile --from DIRECTORY/tree makes the disk.
    """
    try:
        programs = _programs_in(Path(servers)) if servers else {"startup": startup_image()}
        files = {"mach_kernel": kernel_image(), "bootstrap": bootstrap_image()}
        files |= {f"tree/mach_servers/{name}": content for name, content in programs.items()}
        for name, content in files.items():
            path = Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o644 if name.endswith(".conf") else 0o755)
            click.echo(f"{path}: {len(content)} bytes")
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {(error.strerror or '').lower()}") from None


def _programs_in(folder: Path) -> dict[str, bytes]:
    """Each executable by its name as a program, and what the first server is to start."""
    found = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.aout"))}
    if "startup" not in found:
        raise click.ClickException(f"{folder} has no startup.aout; make servers builds those of fixtures/servers")
    return found | {"startup.conf": (folder / "startup.conf").read_bytes()}
