"""Reading a run or building a layout does not wait for packages that it does not need."""

import subprocess
import sys

PROBE = """
import sys
import lightning_qsgd.tracking
slow = {"tensorboard", "matplotlib", "torch", "qiskit", "lightning"}
print(sorted(slow & set(sys.modules)))
"""


def test_importing_the_room_loads_nothing_slow():
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)

    assert (result.stdout, result.stderr) == ("[]\n", "")
