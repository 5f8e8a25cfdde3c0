"""From a path to a file: by Mach's rules with a device in front, and by milder ones inside one file system.

Interface:
    open_file(devices, path, mount)     Mach's open_file: "/dev/<name>/a/b", or "/dev/<name>" for the device itself
    OpenFile                            what it found
    resolve(file_system, path, follow)  for commands: any bytes, 32 links, "/dev" is a directory like another
    mach_mount(device)                  an FFS that Mach itself would take: superblock at 8 KiB, blocks up to 8 KiB
    shown(name), as_bytes(path)         names as text and back (surrogateescape)
Not here: permissions. Mach's bootstrap file system has none (file_io.c), and neither has this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bootfs.device import BlockDevice
from bootfs.errors import FileSystemError, FsCode
from bootfs.inode import Inode
from bootfs.interface import BootFileSystem, Mount
from bootfs.layout import MAXNAMLEN

MAXPATHLEN = 1024  # bytes; Mach's buffer
MAXSYMLINKS = 8  # Mach; BSD of the time had the same
MAX_LINKS = 32  # for commands
DEVICE_PREFIX = b"/dev/"
# Faults of the path that was asked for, and not of the disk: the message names the path.
_PATH_FAULTS = (FsCode.FS_NO_ENTRY, FsCode.FS_NOT_DIRECTORY, FsCode.FS_NAME_TOO_LONG, FsCode.FS_SYMLINK_LOOP)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """What open_file found. A raw device has neither file system nor inode; its bytes are the device's own."""

    device_name: str
    device: BlockDevice
    file_system: BootFileSystem | None = None
    inode: Inode | None = None

    @property
    def is_raw(self) -> bool:
        return self.inode is None


def shown(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 become surrogates, which as_bytes turns back."""
    return name.decode("utf-8", "surrogateescape")


def as_bytes(path: bytes | str) -> bytes:
    """A path as bytes: the inverse of shown. FileSystemError FS_INVALID_PARAMETER for what no file name can hold."""
    try:
        return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "not a path that can be on a disk", repr(path)) from error


def open_file(devices: Mapping[str, BlockDevice], path: bytes | str, mount: Mount | None = None) -> OpenFile:
    """The file or raw device of a full path, by the rules of Mach's open_file (bootstrap/file_io.c:559-788).

    `mount` makes a file system of a device; without it, any format that is known (probe). FileSystemError with Mach's
    code: FS_NO_ENTRY (also for no device name, and for a trailing "/"), D_NO_SUCH_DEVICE, FS_NOT_DIRECTORY,
    FS_NAME_TOO_LONG (a component over 256 bytes, a path over 1023), FS_INVALID_PARAMETER (a byte above 127),
    FS_SYMLINK_LOOP (the ninth link), FS_INVALID_FS. Mach copies the path unchecked and keeps the device after an error;
    ours does neither.
    """
    text = as_bytes(path)
    if not text.startswith(DEVICE_PREFIX):
        raise FileSystemError(FsCode.FS_NO_ENTRY, "no device name: it must begin with /dev/<name>", shown(text))
    if len(text) >= MAXPATHLEN:
        raise FileSystemError(FsCode.FS_NAME_TOO_LONG, f"a path of {len(text)} bytes", shown(text[:40]) + "...")
    return _MachWalk(devices, mount or _any_format).open(text)


def _any_format(device: BlockDevice) -> BootFileSystem:
    from bootfs.probe import open_any  # the formats import this module

    return open_any(device)


def mach_mount(device: BlockDevice) -> BootFileSystem:
    """An FFS within the limits of Mach's own reader (file_io.c:503-508), else FileSystemError FS_INVALID_FS."""
    from bootfs.filesystem import FileSystem  # it imports this module

    fs = FileSystem.open(device)
    if fs.superblock.location != 8192 or fs.superblock.fs_bsize > 8192:
        raise FileSystemError(
            FsCode.FS_INVALID_FS, "Mach reads a superblock at byte 8192 and blocks up to 8192 bytes only", "superblock"
        )
    return fs


class _MachWalk:
    """One open_file under way: the device and directory it has come to, and the links it has followed."""

    def __init__(self, devices: Mapping[str, BlockDevice], mount: Mount) -> None:
        self.devices = devices
        self.mount = mount
        self.links = 0

    def open(self, path: bytes) -> OpenFile:
        """From "/dev/<name>...", once for the path and again for each link that names a device."""
        while True:
            name, slash, rest = path[len(DEVICE_PREFIX) :].partition(b"/")
            device = self.devices.get(shown(name))
            if device is None:
                raise FileSystemError(FsCode.D_NO_SUCH_DEVICE, "no such device", shown(name))
            if not slash:
                return OpenFile(shown(name), device)
            file_system = self.mount(device)
            found = self.descend(file_system, slash + rest)
            if isinstance(found, Inode):
                return OpenFile(shown(name), device, file_system, found)
            path = found

    def descend(self, file_system: BootFileSystem, path: bytes) -> Inode | bytes:
        """The inode at the end of `path` in one file system, or the path of a link that leads to another device."""
        current = file_system.root()
        while path:
            if current.kind != "dir":
                raise FileSystemError(FsCode.FS_NOT_DIRECTORY, "not a directory", f"{current} before {shown(path)}")
            path = path.lstrip(b"/")
            name = path.partition(b"/")[0]
            rest = path[len(name) :]
            self.check_component(name)
            found = file_system.find(current, name)
            if found.kind != "link":
                current, path = found, rest
                continue
            path = self.follow(file_system.readlink(found), rest, name)
            if path.startswith(DEVICE_PREFIX):
                return path
            if path.startswith(b"/"):
                current = file_system.root()
        return current

    def check_component(self, name: bytes) -> None:
        # Mach counts 256 bytes as still short enough, though no entry can be longer than 255.
        high = next((at for at, byte in enumerate(name) if byte & 0x80), None)
        if high is not None and high <= MAXNAMLEN:
            raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "a byte above 127 in a name", shown(name))
        if len(name) > MAXNAMLEN + 1:
            raise FileSystemError(FsCode.FS_NAME_TOO_LONG, f"a name of {len(name)} bytes", shown(name[:40]) + "...")
        if not name:
            raise FileSystemError(FsCode.FS_NO_ENTRY, "the path ends in a slash", "open_file")

    def follow(self, target: bytes, rest: bytes, name: bytes) -> bytes:
        if len(target) + len(rest) + 1 >= MAXPATHLEN - 1:
            raise FileSystemError(FsCode.FS_NAME_TOO_LONG, "the path is too long behind this link", shown(name))
        self.links += 1
        if self.links > MAXSYMLINKS:
            raise FileSystemError(FsCode.FS_SYMLINK_LOOP, f"more than {MAXSYMLINKS} links", shown(name))
        if not target:
            raise FileSystemError(FsCode.FS_NO_ENTRY, "an empty link", shown(name))
        return target + rest


def resolve(file_system: BootFileSystem, path: bytes | str, follow: bool = True) -> Inode:
    """The inode of `path`, from the root whether it begins with "/" or not; a trailing "/" asks for a directory.

    A last component that is a link is followed if `follow`. FileSystemError: FS_NO_ENTRY, FS_NOT_DIRECTORY,
    FS_NAME_TOO_LONG, FS_SYMLINK_LOOP (the 33rd link), FS_INVALID_PARAMETER (a NUL), FS_INVALID_FS.
    """
    text = as_bytes(path)
    if b"\0" in text:
        raise FileSystemError(FsCode.FS_INVALID_PARAMETER, "a NUL in a path", shown(text))
    current = file_system.root()
    todo, links = text, 0
    try:
        while todo := todo.lstrip(b"/"):
            name, slash, rest = todo.partition(b"/")
            if len(name) > MAXNAMLEN:
                raise FileSystemError(FsCode.FS_NAME_TOO_LONG, f"a name of {len(name)} bytes")
            found = file_system.find(current, name)
            if found.kind != "link" or not (follow or slash):
                current, todo = found, rest
                if slash and found.kind != "dir":
                    raise FileSystemError(FsCode.FS_NOT_DIRECTORY, f"{shown(name)} is not a directory")
                continue
            links += 1
            if links > MAX_LINKS:
                raise FileSystemError(FsCode.FS_SYMLINK_LOOP, f"more than {MAX_LINKS} symbolic links")
            target = file_system.readlink(found)
            if target.startswith(b"/"):
                current = file_system.root()
            todo = target + slash + rest
    except FileSystemError as error:
        if error.code not in _PATH_FAULTS:
            raise
        message = "no such file or directory" if error.code == FsCode.FS_NO_ENTRY else error.message
        raise FileSystemError(error.code, message, shown(text)) from error
    return current
