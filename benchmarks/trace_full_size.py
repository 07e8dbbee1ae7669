"""What it takes to trace the whole 15B model: both graphs at full width and depth, with passes, without weights.

    python -m benchmarks.trace_full_size [--layers 40] [--keep]

The configuration is the published one, which the tests keep; the checkpoint is not needed.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.machine import peak_rss_bytes
from benchmarks.record import add_options, publish

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tracing the full-size model.")
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--max-context", type=int, default=16384)
    add_options(parser)
    options = parser.parse_args()

    from phiedge.exporters.config import ModelConfig
    from phiedge.exporters.dialects.ort import to_ort_decoder, to_ort_vision
    from phiedge.exporters.graphs import draft_decoder, draft_vision
    from phiedge.exporters.precision import choose_precision
    from published import PUBLISHED_CONFIG

    config = ModelConfig.from_json(PUBLISHED_CONFIG | {"num_hidden_layers": options.layers})
    plan = choose_precision("int4", sm=87).plan
    imported_bytes = peak_rss_bytes()
    begun_ns = time.perf_counter_ns()
    decoder = draft_decoder(config, plan, max_context=options.max_context)
    to_ort_decoder(decoder, plan)
    decoder_ns = time.perf_counter_ns()
    vision = draft_vision(config, plan)
    to_ort_vision(vision, plan)
    found = {
        "decoder_s": round((decoder_ns - begun_ns) / 1e9, 1),
        "vision_s": round((time.perf_counter_ns() - decoder_ns) / 1e9, 1),
        "peak_rss_gib": round(peak_rss_bytes() / 2**30, 3),
        "imports_rss_gib": round(imported_bytes / 2**30, 3),
        "nodes": len(decoder.graph) + len(vision.graph),
        "weights_bytes": sum(
            slot.size_bytes for draft in (decoder, vision) for f in draft.fills.values() for slot in f.slots
        ),
    }
    publish("trace-full-size", {"layers": options.layers, "max_context": options.max_context}, found, keep=options.keep)


if __name__ == "__main__":
    main()
