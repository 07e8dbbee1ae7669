import os
import subprocess
import sys
from pathlib import Path


def test_importing_it_writes_no_telemetry(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-B", "-c", "import phiedge.engines.onnxruntime.opening"]
    subprocess.run(command, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
