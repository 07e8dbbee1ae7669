"""What all verbs share, seen through a verb that does what each test needs."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer

from phiedge import __version__
from phiedge.cli import main
from phiedge.cli.options import JsonOption
from phiedge.cli.verbs import VERBS, verb_app
from phiedge.errors import BundleError, UnknownDeviceError

Act = Callable[[], None]
Install = Callable[[Act], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Adds a verb `probe` that does `act` when it is called."""

    def add(act: Act) -> None:
        module = ModuleType("phiedge.cli.probe")
        app = verb_app()

        @app.command()
        def probe(count: Annotated[int, typer.Option(help="A number.")] = 0, as_json: JsonOption = False) -> None:
            """Do what the test needs."""
            act()

        module.__dict__["app"] = app
        monkeypatch.setitem(sys.modules, "phiedge.cli.probe", module)
        monkeypatch.setitem(VERBS, "probe", "Do what the test needs.")

    return add


def raising(error: BaseException) -> Act:
    def act() -> None:
        raise error

    return act


def test_help_lists_every_verb_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    for verb, summary in VERBS.items():
        assert f"  {verb} " in shown
        assert summary in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_page(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "-h"]) == 0
    assert f"Usage: phiedge {verb}" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"phiedge {__version__}\n"


def test_no_verb_at_all_is_answered_with_the_help_page_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: phiedge" in captured.err


def test_a_verb_that_succeeds_exits_with_zero(install: Install) -> None:
    install(lambda: None)
    assert main(["probe"]) == 0


def test_the_exit_code_of_a_verb_is_that_of_the_command(install: Install) -> None:
    install(raising(typer.Exit(3)))
    assert main(["probe"]) == 3


def test_an_unknown_verb_is_refused_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verfy"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no verb 'verfy'; did you mean 'verify'?\nremedy: `phiedge -h` lists the verbs\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["probe", "--cuont", "1"], "--count"),
        (["probe", "--count", "many"], "'--count'"),
        (["probe", "extra"], "unexpected extra argument"),
        (["probe", "--count"], "requires an argument"),
    ],
)
def test_wrong_options_exit_with_two_and_point_to_the_help(
    install: Install, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    install(lambda: None)
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert complaint in shown
    assert shown.endswith("remedy: `phiedge probe -h` says what there is\n")


def test_an_error_is_told_with_its_remedy_on_stderr(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(BundleError("needs 9 GB, 6 GB are free", remedy="free some space")))
    assert main(["probe"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: needs 9 GB, 6 GB are free\nremedy: free some space\n"


def test_an_error_is_told_as_one_json_object_on_stdout(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(UnknownDeviceError("there is no device 'orni'", remedy="--target orin")))
    assert main(["probe", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "error": {"type": "UnknownDeviceError", "message": "there is no device 'orni'", "remedy": "--target orin"}
    }


@pytest.mark.parametrize("arguments", [["probe", "--cuont", "1", "--json"], ["porbe", "--json"]])
def test_wrong_usage_is_told_as_json_too(
    install: Install, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    install(lambda: None)
    assert main(arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


def test_ctrl_c_is_told_as_json_too(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(KeyboardInterrupt()))
    assert main(["probe", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "Interrupted"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/etc/bundle"), "error: /etc/bundle: permission denied"),
        (OSError(28, "No space left on device"), "error: no space left on device"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "(torch is not installed)"),
        (ModuleNotFoundError("No module named 'onnx.x'", name="onnx.x"), "remedy: pip install 'phiedge[export]'"),
    ],
)
def test_what_the_machine_refuses_is_told_without_a_traceback(
    install: Install, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    install(raising(error))
    assert main(["probe"]) == 1
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ModuleNotFoundError("own", name="phiedge.nothing")])
def test_a_defect_keeps_its_traceback(install: Install, error: Exception) -> None:
    install(raising(error))
    with pytest.raises(type(error)):
        main(["probe"])


def test_ctrl_c_exits_with_130(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(KeyboardInterrupt()))
    assert main(["probe"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


# A real signal to a real process that is in the middle of writing a bundle.
INTERRUPTED = """
import sys
from types import ModuleType
from phiedge.bundle import BundleWriter
from phiedge.cli import main
from phiedge.cli.options import JsonOption
from phiedge.cli.verbs import VERBS, verb_app

app = verb_app()

@app.command()
def probe(destination: str) -> None:
    with BundleWriter(destination) as writer:
        (writer.path / "half").write_bytes(b"half")
        print("ready", flush=True)
        sys.stdin.read()

sys.modules["phiedge.cli.probe"] = module = ModuleType("phiedge.cli.probe")
module.app = app
VERBS["probe"] = "probe"
sys.exit(main(["probe", sys.argv[1]]))
"""


def test_ctrl_c_in_the_middle_of_writing_leaves_nothing_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "bundle")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert told == "error: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    command = f"{sys.executable} -m phiedge -h | head -c 1"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert finished.stderr == ""


def test_python_m_phiedge_is_the_command() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "phiedge", "--version"], capture_output=True, text=True, check=True
    )
    assert finished.stdout == f"phiedge {__version__}\n"
