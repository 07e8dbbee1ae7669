import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import sys
import phiedge.engines.openvino.library
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


def test_importing_openvino_writes_and_sends_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
    assert list(tmp_path.iterdir()) == []
