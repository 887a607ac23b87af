"""A virtual machine's cable: a tap on a fabric's bridge, where namespaces and the API server are, too."""

from testbed.machines import Fabric, MachineError
from testbed.machines.commands import execute


class Tap:
    """A tap device with an address on the fabric that the guest gives itself."""

    def __init__(self, fabric: Fabric) -> None:
        link = fabric.outlet()
        self.device = link.device
        self.address = link.address
        self.mac = "02:f5:" + link.address.ip.packed.hex(":")
        self._bridge = link.bridge

    async def plug(self) -> None:
        """Make it, on the bridge."""
        await execute("ip", "tuntap", "add", "dev", self.device, "mode", "tap")
        lines = f"link set {self.device} master {self._bridge} addrgenmode none up\n"
        await execute("ip", "-batch", "-", stdin=lines)

    async def unplug(self) -> None:
        """Remove it, if it is there."""
        try:
            await execute("ip", "link", "del", self.device)
        except MachineError as error:
            if "Cannot find device" not in str(error):
                raise
