"""Whenever paging space runs short, give the pager another disk: what a system does that is never to run out.

Interface: python examples/keep_space.py SOCKET BELOW IMAGE...

    python examples/keep_space.py /tmp/pager.sock 8000000 more1.img more2.img

waits until fewer than 8,000,000 bytes are free, adds more1.img, waits again, adds more2.img, and ends.

Not here: making the disks (mkpagingfile).
"""

from __future__ import annotations

import sys

from bootfs.device import FileDevice
from pager.client import PagerClient
from pager.storage import PAGING_FILE, find_paging_file


def main(socket: str, below: int, images: list[str]) -> None:
    with PagerClient(socket) as pager:
        for image in images:
            alert = pager.await_space(below=below)
            assert alert is not None  # no time was set for it
            with FileDevice(image) as disk:
                pager.add_storage(f"{image}:{PAGING_FILE}", image, find_paging_file(disk, image, PAGING_FILE))
            print(f"{alert.free_space} bytes were free: added {image}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
