"""`optimum-cli export phiedge`: the same export as `phiedge export`, for those who start from Optimum.

Optimum finds this file by its place (a namespace package, so there must be no `__init__.py` here) and imports it
whenever `optimum-cli` starts; everything of phiedge is therefore imported when the command runs.
"""

import argparse
import sys
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class PhiEdgeExportCommand(BaseOptimumCLICommand):
    """Export a Phi-4-reasoning-vision checkpoint to a phiedge bundle."""

    COMMAND = CommandInfo(name="phiedge", help="Export Phi-4-reasoning-vision to a phiedge bundle for an edge device.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Declare the options of `phiedge export`; what a value may be is checked there."""
        parser.add_argument("--model", "-m", required=True, help="reference, a checkpoint's directory, or a Hub id")
        parser.add_argument("--target", required=True, help="the device, as `phiedge devices list` names it")
        parser.add_argument("--output", "-o", required=True, type=Path, help="the bundle to write")
        parser.add_argument("--precision", default="auto", help="auto, int4, fp16 or fp32 (default: auto)")
        parser.add_argument("--calibration", default="none", help="builtin, a JSONL file, or none (default: none)")
        parser.add_argument("--max-context", type=int, default=None, help="tokens that prompt and answer may have")

    def run(self) -> None:
        """Export, and exit as `phiedge export` would."""
        from phiedge.cli.console import terminal_progress
        from phiedge.cli.failures import describe

        try:
            from phiedge.pipeline import export

            bundle = export(
                self.args.model,
                target=self.args.target,
                output=self.args.output,
                precision=self.args.precision,
                calibration=self.args.calibration,
                max_context=self.args.max_context,
                progress=terminal_progress(),
            )
        except BaseException as error:
            failure = describe(error)
            if failure is None:
                raise
            failure.show(as_json=False)
            sys.exit(failure.exit_code)
        print(bundle.path)


REGISTER_COMMANDS = [(PhiEdgeExportCommand, ExportCommand)]
