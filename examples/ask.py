"""Ask an exported bundle about pictures from Python: `python examples/ask.py BUNDLE PICTURE QUESTION`."""

import sys

import phiedge


def main(bundle: str, picture: str, question: str) -> None:
    with phiedge.Session.open(bundle) as session:
        for event in session.stream(question, images=[picture]):
            if event.kind == "answer":
                print(event.text, end="", flush=True)
            if event.result is not None:
                print(f"\n{event.result.finish_reason} after {event.result.timings_ms.total:.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
