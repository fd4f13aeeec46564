"""TensorBoard is loaded by the run that is read or written, not by the import."""

import subprocess
import sys

PROBE = """
import sys
import lightning_qsgd.tracking
print(sorted({"tensorboard", "torch.utils.tensorboard"} & set(sys.modules)))
"""


def test_importing_the_room_does_not_load_tensorboard():
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)

    assert (result.stdout, result.returncode) == ("[]\n", 0)
