"""The guests' system: Debian 12's kernel, and one initial RAM file system with all that a guest needs.

A guest has no disk for its system: it starts from RAM within seconds, and a power cut leaves nothing of it, so what
survives is on the data disks alone. Packages are unpacked, not installed: no systemd, no services; `guest/init.sh` is
the first process. Made once and kept in the cache.
"""

import hashlib
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.cache import cache_folder, locked

RELEASE = "bookworm"
PACKAGES = ("linux-image-amd64", "busybox-static", "python3", "e2fsprogs", "fuse3", "libgcc-s1")
# Drivers of the emulated devices, the file systems, and what the kernel's serving gate is made of.
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"),
    *("ext4", "crc32c_generic", "fuse", "nf_tables", "nft_reject_inet", "nft_ct"),
)
# Every MiB costs at each boot.
LEFT_OUT = (
    *("boot", "dev", "proc", "sys", "var", "usr/share", "usr/lib/modules", "usr/lib/udev", "usr/lib/klibc"),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/lib/python3.11/test", "usr/lib/python3.11/pydoc_data"),
)
# Else every boot would compile the same modules.
COMPILE = ("python3", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/usr/lib/python3.11")
# Unpacked packages alone: /bin and the like are links that some other package's script would make.
MERGED = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
XZ = b"\xfd7zXZ\x00"


class ImageError(Exception):
    """The guests' system could not be made; the message says why."""


@dataclass(frozen=True)
class GuestImage:
    """What a virtual machine is started from."""

    kernel: Path
    """The kernel, unpacked: its own unpacking would take seconds."""
    base: Path
    """The initial RAM file system, to which a machine's own files are appended."""
    release: str
    """The kernel's release, `6.1.0-...`."""
    busybox: Path

    def initial_files(self, folder: Path, target: Path) -> None:
        """Write to `target` the base with all that lies in `folder` laid over it."""
        with target.open("wb") as archive:
            with self.base.open("rb") as base:
                shutil.copyfileobj(base, archive)
            archive.write(_archive(self.busybox, folder, (path.relative_to(folder) for path in folder.rglob("*"))))


def guest_image(*, say: Callable[[str], None] | None = None) -> GuestImage:
    """The guests' system, made first if need be; `say` is told what takes time."""
    say = say or (lambda text: print(text, file=sys.stderr, flush=True))
    recipe = repr((RELEASE, PACKAGES, MODULES, LEFT_OUT, COMPILE, MERGED))
    folder = cache_folder() / "vm" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if not folder.exists():
        with locked(folder.with_suffix(".lock"), say):
            if not folder.exists():
                say(f"making the virtual machines' system from Debian's packages ({RELEASE}): once, about 2 minutes")
                _make(folder)
    release = (folder / "release").read_text()
    return GuestImage(folder / "vmlinux", folder / "base.cpio", release, folder / "busybox")


def _make(folder: Path) -> None:
    """Make it in a folder beside, and rename that when it is complete."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    root = unfinished / "root"
    _run(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract"),
        *(f"--include={','.join(PACKAGES)}", f"--setup-hook={MERGED}", RELEASE, str(root)),
    )
    release = next((root / "usr/lib/modules").iterdir()).name
    _run("chroot", str(root), "depmod", release)
    _run("chroot", str(root), *COMPILE)
    wanted = {*_modules(root, release), *(root / "usr/lib/modules" / release).glob("modules.*")}
    (unfinished / "vmlinux").write_bytes(_unpacked(root / f"boot/vmlinuz-{release}"))
    shutil.copy(root / "usr/bin/busybox", unfinished / "busybox")
    left_out = [root / name for name in LEFT_OUT]
    parents = {parent for path in wanted for parent in path.parents}
    kept = (
        path.relative_to(root)
        for path in root.rglob("*")
        if path in wanted or path in parents or not any(path.is_relative_to(top) for top in left_out)
    )
    (unfinished / "base.cpio").write_bytes(_archive(unfinished / "busybox", root, kept))
    (unfinished / "release").write_text(release)
    shutil.rmtree(root)
    unfinished.rename(folder)


def _modules(root: Path, release: str) -> set[Path]:
    """The files of the modules and of all that they need."""
    told = _run("chroot", str(root), "modprobe", "--set-version", release, "--all", "--show-depends", *MODULES)
    paths = (line.split()[1] for line in told.splitlines() if line.startswith("insmod "))
    return {root / "usr" / path.lstrip("/") for path in paths}


def _unpacked(image: Path) -> bytes:
    """The kernel inside a compressed image."""
    packed = image.read_bytes()
    at = packed.find(XZ)
    if at < 0:
        raise ImageError(f"{image.name} is not compressed with xz, as Debian 12's kernels are")
    return lzma.LZMADecompressor().decompress(packed[at:])


def _archive(busybox: Path, folder: Path, names: Iterable[Path]) -> bytes:
    """A cpio archive of these names below `folder`, folders before what is in them."""
    listed = "".join(f"{name}\n" for name in sorted(names))
    command = [str(busybox), "cpio", "-o", "-H", "newc", "-R", "0:0"]
    made = subprocess.run(command, cwd=folder, input=listed.encode(), capture_output=True, check=False)
    if made.returncode:
        raise ImageError(f"cpio: {made.stderr.decode().strip()}")
    return made.stdout


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"`{' '.join(command)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
