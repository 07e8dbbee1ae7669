"""The table of our checkpoints in the libraries that define their formats."""

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, ...]]


def ecosystem_checkpoints(results: Mapping[str, Any], settings: Mapping[str, Any]) -> Rows:
    """One row for each claim, with what was found."""
    logits, accuracy = results["logits"], results["accuracy"]
    packing, export = results["modelopt_packing"], results["modelopt_export"]
    differing = sum(len(export[key]) for key in ("only_theirs", "only_ours", "other_shapes", "other_types_of_codes"))
    shares = [100 * accuracy[name]["overall"] for name in ("phiedge", "transformers")]
    return [
        ("checkpoint", "library", "what was compared", "found"),
        (
            "compressed-tensors",
            f"transformers {settings['transformers']}, compressed-tensors {settings['compressed-tensors']}",
            f"logits of {logits['prompts']} prompts with pictures, beside ours",
            f"{logits['max_abs_difference']:.1e} apart at most, of {logits['largest_logit']:.0f}; "
            f"cosine {logits['min_cosine']:.7f} at least",
        ),
        (
            "compressed-tensors",
            "the same",
            f"right answers of {accuracy['phiedge']['asked']}, beside ours",
            f"{shares[1]:.1f} %, {shares[0]:.1f} %",
        ),
        (
            "modelopt",
            f"nvidia-modelopt {settings['nvidia-modelopt']}",
            f"its packing of {packing['linears']} dequantised weights, beside our bytes",
            f"{packing['bytes_that_differ']} bytes differ",
        ),
        (
            "modelopt",
            "the same",
            f"names, types and shapes of its own export, {export['quantised_tensors']} of them int4",
            f"{differing} differ",
        ),
    ]
