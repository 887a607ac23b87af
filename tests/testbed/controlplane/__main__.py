"""`python -m testbed.controlplane`: build the control plane's programs if need be, and print their folder."""

import sys

from testbed.controlplane.build import BuildError, programs

try:
    print(programs())
except BuildError as error:
    sys.exit(str(error))
