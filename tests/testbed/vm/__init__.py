"""Virtual machines with kernels and disks of their own, whose power can be cut.

Emulated without the processor's help (TCG), so they run wherever qemu does, some 10 to 30 times slower than the machine
below. For what a namespace can't show: an operating system that forgets its page cache, a disk that forgets what was
not flushed, another kernel. Not for measuring speed.
"""

from testbed.vm.disk import Disk
from testbed.vm.image import GuestImage, ImageError, guest_image
from testbed.vm.machine import PowerCutError, VirtualMachine
from testbed.vm.network import Tap

__all__ = ["Disk", "GuestImage", "ImageError", "PowerCutError", "Tap", "VirtualMachine", "guest_image"]
