"""`build --backend tensorrt-llm`, with a stand-in for its tool: what it does well, and every way in which it fails."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from command_lines import assert_refused, tell
from phiedge.bundle import Bundle
from phiedge.errors import DeviceError
from phiedge.exporters.checkpoints.readers import check_readable
from phiedge.pipeline.building_tensorrt_llm import build_tensorrt_llm
from trtllm_stand_in import ENGINE, LIBRARY, pretend_installed


@pytest.fixture
def bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_bundle, tmp_path / "made" / "bundle"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_where_it_is_not_installed_the_checkpoint_is_written_and_the_command_told(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tell(capsys, "build", bundle, "--backend", "tensorrt-llm", "--json").json
    assert (told["format"], told["installed"], told["engine"], told["loaded_by"]) == ("trtllm-legacy", None, None, None)
    assert "v0.12.0-jetson" in told["needs"]
    check_readable(Path(told["checkpoint"]), "trtllm-build")
    words = shlex.split(told["command"])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "trtllm-build"
    assert options["--checkpoint_dir"] == told["checkpoint"] == str(bundle) + ".trtllm-legacy"
    assert options["--max_seq_len"] == str(Bundle.open(bundle).manifest.max_context)
    assert options["--max_multimodal_len"] == "512"  # two pictures of the reference model
    assert names(bundle.parent) == ["bundle", "bundle.trtllm-legacy"]


def test_an_engine_is_built_and_verified(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, "1.2.1", ENGINE)
    made = build_tensorrt_llm(bundle)
    assert (made.kind, made.installed, made.loaded_by, made.elsewhere) == ("trtllm-legacy", "1.2.1", None, None)
    assert made.engine == bundle.with_name("bundle.tensorrt-llm")
    assert names(made.engine) == ["config.json", "phiedge.json", "rank0.engine"]
    record = json.loads((made.engine / "phiedge.json").read_text())
    assert (record["engine"], record["version"]) == ("tensorrt-llm", "1.2.1")
    assert build_tensorrt_llm(bundle).engine == made.engine  # again, in place of itself


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("print('[E] Error Code 1: no such layer'); sys.exit(3)", "ended with exit code 3; it said: .*no such layer"),
        ("", "reported success and wrote no rank0.engine"),
        (ENGINE.replace(".stat().st_size)", ".stat().st_size // 4)"), "rank0.engine has .* bytes, the weights take"),
        (ENGINE.replace('"pretrained_config": config', '"other": 1'), "is not what trtllm-build writes"),
        (
            ENGINE.replace("config = json", "config = {'num_hidden_layers': 1} | json").replace(
                ".read_text())\n", '.read_text()) | {"hidden_size": 7}\n', 1
            ),
            "built with hidden_size 7, the model has 256",
        ),
        (
            ENGINE.replace(".read_text())\n", '.read_text()) | {"quantization": None}\n', 1),
            "built with the quantisation None, the checkpoint has W4A16_AWQ",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, as the system does when memory is short"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "was ended by signal 15"),
        ("print('OSError: [Errno 28] No space left on device'); sys.exit(1)", "ran out of disk"),
        ("print('RuntimeError: CUDA out of memory'); sys.exit(1)", "ran out of memory"),
    ],
    ids=["error", "nothing", "small", "config", "model", "format", "killed", "ended", "disk", "memory"],
)
def test_a_build_that_fails_is_named_and_leaves_no_engine(
    does: str, message: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path, "1.2.1", does)
    with pytest.raises(DeviceError, match=message):
        build_tensorrt_llm(bundle)
    assert "bundle.tensorrt-llm" not in names(bundle.parent)


def test_the_log_of_a_failed_build_is_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, "1.2.1", "print('line ' * 3); sys.exit(1)")
    with pytest.raises(DeviceError) as failed:
        build_tensorrt_llm(bundle)
    log = Path(str(failed.value.remedy).removeprefix("its whole log is "))
    assert "line line line" in log.read_text()


def test_a_newer_version_loads_the_checkpoint(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_installed(monkeypatch, tmp_path, "1.3.0", library=LIBRARY.format(version="1.3.0", tokens=[7]))
    made = build_tensorrt_llm(bundle)
    assert (made.kind, made.loaded_by, made.engine) == ("modelopt", "1.3.0", None)
    assert made.elsewhere is not None
    assert made.elsewhere.command.startswith(f"trtllm-serve {bundle}.modelopt --backend pytorch")


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("raise RuntimeError('no CUDA device')", "TensorRT-LLM ended with exit code 1; it said: .*no CUDA device"),
        ("import sys; sys.exit(0)", "reported success and computed nothing"),
        (LIBRARY.format(version="1.3.0", tokens=[]), "computed 0 tokens, 1 was asked for"),
    ],
    ids=["error", "nothing", "no token"],
)
def test_a_load_that_fails_is_named(
    library: str, message: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_installed(monkeypatch, tmp_path, "1.3.0", library=library)
    with pytest.raises(DeviceError, match=message):
        build_tensorrt_llm(bundle)


def test_a_bundle_for_a_processor_is_refused(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "build", tiny_bundle.path, "--backend", "tensorrt-llm")
    assert message == "TensorRT-LLM runs on GPUs, this bundle is for a processor"


def test_options_of_other_backends_are_refused(exported_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = assert_refused(capsys, "build", exported_bundle, "--backend", "tensorrt-llm", "--sm", "89", code=2)
    assert message.startswith("--sm is not for --backend tensorrt-llm")
