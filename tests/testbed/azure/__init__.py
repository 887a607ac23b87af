"""An emulator of Azure Resource Manager, load balancers first, that the unchanged Azure SDK talks to.

`AzureEmulator` runs it inside a test; `python -m testbed.azure` runs it alone, steered through
`EmulatorAdmin`. docs/emulator.md says how to use it. It holds itself to recorded traffic; where it had to
guess, that page says so.
"""

from testbed.azure.client import EmulatorAdmin
from testbed.azure.dataplane import DataPlane, PlaneSettings
from testbed.azure.emulator import AzureEmulator, Settings
from testbed.azure.faults import Fault, Kind
from testbed.azure.http import Availability
from testbed.azure.requestlog import Entry

__all__ = [
    "Availability",
    "AzureEmulator",
    "DataPlane",
    "EmulatorAdmin",
    "Entry",
    "Fault",
    "Kind",
    "PlaneSettings",
    "Settings",
]
