"""`python -m phiedge` and the `phiedge` command."""

import sys


def main() -> int:
    """Run the command line and return its exit code; Ctrl-C leaves no traceback even while the command line loads."""
    try:
        from phiedge.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
