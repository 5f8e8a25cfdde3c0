#!/usr/bin/env bash
# The main job, step by step, as a person would type it: a disk with a paging file, the default pager, a machine with
# four times more memory in use than frames, and a look at all of it through FUSE.  Leaves nothing behind.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/pager-demo.XXXXXX")
pager='' machine='' mounted=''

finish() {  # on any end: unmount, stop what was started, remove what was made
  [ -z "$mounted" ] || pagermount --unmount "$place/mnt" >/dev/null 2>&1 || true
  [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
  [ -z "$pager" ] || kill "$pager" 2>/dev/null || true
  wait || true
  cd / && rm -rf "$place"
}
trap finish EXIT

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
run() { show "$@"; "$@"; }
fail() { echo "demo: $*" >&2; exit 1; }
until_ready() {  # FILE WORDS PID: until the output has the words; fails if the process ends first
  while ! grep -q "$2" "$1"; do
    kill -0 "$3" 2>/dev/null || { cat "$1" >&2; fail "a command ended early"; }
    sleep 0.1
  done
}

cd "$place"
mkdir mnt
cp -R "$here/fixtures/tree" tree

say "A disk in 4.3BSD's format, with a tree of files and a paging file in its blocks"
run mkpagingfile disk.img --size 64M --paging-size 32M --from tree
run bootfs info disk.img
run bootfs ls disk.img /mach_servers
show "bootfs cat disk.img /etc/motd"; bootfs cat disk.img /etc/motd

say "The default pager: a process of its own, paging in nothing but the blocks of that file"
show "pagerd disk.img --socket pager.sock &"
pagerd disk.img --socket pager.sock >pagerd.out 2>&1 & pager=$!
until_ready pagerd.out "ready" "$pager"; cat pagerd.out

say "A machine with 6 MiB of frames runs a program that uses 24 MiB: it writes, rewrites and verifies every byte"
show "machsim run --socket pager.sock --memory 6M --virtual 24M --tasks 1 --kernel-socket kernel.sock --hold &"
machsim run --socket pager.sock --memory 6M --virtual 24M --tasks 1 --kernel-socket kernel.sock --hold >machine.out 2>&1 &
machine=$!
until_ready machine.out "holding" "$machine"; cat machine.out
run pagerctl --socket pager.sock objects

say "All of it as files: the pager, the kernel beside it, the disk"
if [ -e /dev/fuse ] && pagermount mnt --socket pager.sock --kernel kernel.sock --disk disk.img 2>mount.err; then
  mounted=yes
  show "pagermount mnt --socket pager.sock --kernel kernel.sock --disk disk.img"
  run ls mnt mnt/pager mnt/pager/objects/1 mnt/kernel mnt/disk
  run cat mnt/pager/info
  show "head -4 mnt/pager/objects/1/pages"; head -4 mnt/pager/objects/1/pages | cut -c1-110
  show "cat mnt/kernel/queues"; cut -c1-110 mnt/kernel/queues

  say "What the program wrote, what the kernel holds and what is on backing store, compared byte by byte"
  show "machsim pattern --virtual 24M --tasks 1 > wrote"; machsim pattern --virtual 24M --tasks 1 >wrote
  run cmp wrote mnt/kernel/objects/1/data && echo "the kernel's memory is what the program wrote: $(wc -c <wrote) bytes"
  run cmp wrote mnt/pager/objects/1/data && echo "and so is what is paged out"

  say "The paging file, a character a slot: # used, . free"
  show "head -c 1040 mnt/pager/partitions/0/map; tail -3 mnt/pager/partitions/0/map"
  head -c 1040 mnt/pager/partitions/0/map; echo "..."; tail -3 mnt/pager/partitions/0/map
  run pagermount --unmount mnt
  mounted=''
else
  [ -s mount.err ] && cat mount.err || echo "There is no /dev/fuse here, so the mount is left out; all else works."
  show "machsim pattern --virtual 24M --tasks 1 | cmp - memory"
  python3 - <<'PY'
from kernel.client import KernelClient
client = KernelClient("kernel.sock")
size = client.objects()[0].size
with open("memory", "wb") as out:
    for offset in range(0, size, 262144):
        out.write(client.read_object(1, offset, min(262144, size - offset)))
PY
  machsim pattern --virtual 24M --tasks 1 | cmp - memory && echo "the kernel's memory is what the program wrote"
fi

say "The machine stops, and its pages are free again; the pager stops; the disk's files are as they were"
show "kill $machine"; kill "$machine"; wait "$machine" || true; machine=''
run pagerctl --socket pager.sock info
show "kill $pager"; kill "$pager"; wait "$pager" || true; pager=''
for file in $(cd tree && find . -type f | sed 's/^\.//'); do
  bootfs cat disk.img "$file" | cmp - "tree$file" || fail "$file has changed"
done
echo "every file on the disk reads as it was put there"

say "What to try next"
cat <<'TEXT'
  machsim run --in-process --memory 1M --virtual 4M --seed 7    the whole machine in one process, in simulated time
  machsim run --help                                            other sizes, several tasks, other seeds
  bootfs ls IMAGE /                                             a BSD disk of your own
  pagermount --help                                             keep it mounted, and watch it with `watch cat`
TEXT
