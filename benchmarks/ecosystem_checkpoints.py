"""Our checkpoints in the libraries that define their formats: same weights, same logits, same answers.

    python -m benchmarks.ecosystem_checkpoints [--per-task 20] [--prompts 8] [--keep]

compressed-tensors is loaded by transformers and answers the reference model's suite in place of our decoder (pictures
and embeddings stay ours). ModelOpt's format is packed again from the dequantised weights by nvidia-modelopt's own
function, and held against what ModelOpt exports itself: names, types and shapes. Needs nvidia-modelopt beside the
extras `export` and `test`; no GPU.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from benchmarks.record import add_options, publish
from phiedge.bundle import Bundle
from phiedge.exporters.checkpoints import FORMATS, write_checkpoint
from phiedge.pipeline import export
from phiedge.reference.evaluate import SUITE, SUITE_CONTEXT, evaluate, held_out
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import plan_rows
from phiedge.runtime.session import Session
from phiedge.runtime.stopwatch import Stopwatch

GROUP = 128


@dataclass(frozen=True)
class Said:
    answer: str


class TransformersAnswerer:
    """Our pictures, prompts and embeddings in front of a decoder that transformers has loaded."""

    def __init__(self, bundle: Bundle, decoder: Any) -> None:
        self._model = LoadedModel(bundle, max_context=SUITE_CONTEXT, threads=None, chunk_tokens=256)
        self._decoder = decoder

    def rows(self, prompt: str, images: Sequence[Image.Image], think: Any) -> torch.Tensor:
        """The decoder's input, float32 [1, t, hidden]."""
        pictures = self._model.read_pictures(images, max_visual_tokens=None)
        tokens = self._model.prompts.chat(prompt, images=len(pictures), think=think)
        plan = plan_rows(tokens, [one.grid for one in pictures], context=SUITE_CONTEXT, room=1, cut_at=None)
        self._model.write_rows(plan, pictures, Stopwatch())
        return torch.from_numpy(np.array(self._model._rows[: plan.length], np.float32))[None]

    def generate(self, prompt: str, images: Sequence[Image.Image], *, think: Any, max_new_tokens: int) -> Said:
        facts = self._model.facts
        with torch.no_grad():
            made = self._decoder.generate(
                inputs_embeds=self.rows(prompt, images, think),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(facts.eos_token_ids),
                pad_token_id=facts.pad_token_id,
            )[0].tolist()
        for mark in (facts.end_think_token_id, facts.nothink_token_id):
            if mark in made:
                made = made[made.index(mark) + 1 :]
        told = [self._model.tokenizer.bytes_of(token) for token in made if token not in facts.eos_token_ids]
        return Said(answer=b"".join(told).decode().strip())


def load_compressed(checkpoint: Path) -> Any:
    """The decoder of a compressed-tensors checkpoint, by transformers; the whole model's class is publisher's code."""
    said = json.loads((checkpoint / "config.json").read_text())
    known = Phi3Config().to_dict().keys() - {"model_type", "architectures"} | {"rope_theta"}
    config = Phi3Config(**{key: value for key, value in said.items() if key in known})
    config.quantization_config = said["quantization_config"]
    return Phi3ForCausalLM.from_pretrained(checkpoint, config=config, dtype=torch.float32).eval()


def logits_beside_ours(bundle: Bundle, answerer: TransformersAnswerer, prompts: int) -> dict[str, float]:
    """The largest difference and the least cosine over prompts with pictures, and the largest logit."""
    differences, cosines, largest = [], [], []
    with Session.open(bundle, max_context=SUITE_CONTEXT) as session, torch.no_grad():
        for picture, question in list(held_out(max(2, prompts // 6 + 1)))[:prompts]:
            ours = session.logits(question.prompt, [picture])
            theirs = answerer._decoder(inputs_embeds=answerer.rows(question.prompt, [picture], "auto"))
            other = theirs.logits[0, -1].numpy()
            differences.append(float(np.abs(ours - other).max()))
            cosines.append(float(ours @ other / np.linalg.norm(ours) / np.linalg.norm(other)))
            largest.append(float(np.abs(ours).max()))
    return {
        "prompts": len(differences),
        "max_abs_difference": max(differences),
        "min_cosine": min(cosines),
        "largest_logit": max(largest),
    }


def packed_by_modelopt(checkpoint: Path) -> dict[str, int]:
    """ModelOpt's own packing of our dequantised weights beside our bytes: how many linears, how many bytes differ."""
    from modelopt.torch.export.quant_utils import pack_int4_in_uint8

    tensors = load_file(checkpoint / "model.safetensors")
    linears = differing = 0
    for name, packed in tensors.items():
        if packed.dtype != torch.uint8:
            continue
        scales = tensors[f"{name}_scale"]
        low, high = (packed & 15).to(torch.int8), (packed >> 4).to(torch.int8)
        codes = torch.stack([low, high], dim=1).reshape(-1, packed.shape[1])
        codes = torch.where(codes > 7, codes - 16, codes)
        weight = codes.float() * scales.repeat_interleave(GROUP, dim=1)
        again = pack_int4_in_uint8(weight, scales, GROUP).view(torch.uint8)
        linears += 1
        differing += int((again != packed).sum())
    return {"linears": linears, "bytes_that_differ": differing}


def exported_by_modelopt(checkpoint: Path, work: Path) -> dict[str, Any]:
    """A Llama of the same shapes, quantised and exported by ModelOpt: what it writes and we do not, and the reverse."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    config = json.loads((checkpoint / "config.json").read_text())
    for key in ("quantization_config", "torch_dtype", "image_token_id"):
        config.pop(key)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**config)).to(torch.float16).float().eval()
    tokens = torch.randint(0, config["vocab_size"], (2, 64))
    mtq.quantize(model, mtq.INT4_AWQ_CFG, lambda found: found(tokens))
    with torch.no_grad():
        export_hf_checkpoint(model, dtype=torch.float16, export_dir=work)
    theirs, ours = (load_file(path / "model.safetensors") for path in (work, checkpoint))
    shapes_theirs = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    shapes_ours = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    quantised = {name for name, tensor in theirs.items() if tensor.dtype == torch.uint8}
    said_theirs = json.loads((work / "hf_quant_config.json").read_text())["quantization"]
    said_ours = json.loads((checkpoint / "hf_quant_config.json").read_text())["quantization"]
    return {
        "quantised_tensors": len(quantised),
        "only_theirs": sorted(set(shapes_theirs) - set(shapes_ours))[:8],
        "only_ours": sorted(set(shapes_ours) - set(shapes_theirs))[:8],
        "other_shapes": sorted(
            name for name in shapes_ours if name in shapes_theirs and shapes_ours[name] != shapes_theirs[name]
        )[:8],
        "other_types_of_codes": sorted(name for name in quantised if ours[name].dtype != torch.uint8)[:8],
        "config_theirs": said_theirs,
        "config_ours": said_ours,
    }


def written(bundle: Bundle, work: Path) -> dict[str, int]:
    """The bytes of every format of the bundle."""
    found = {}
    for kind in FORMATS:
        path = write_checkpoint(bundle, kind, work / kind)
        found[kind] = sum(file.stat().st_size for file in path.iterdir())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Load our checkpoints with the libraries that define their formats.")
    parser.add_argument("--per-task", type=int, default=20, help="questions of each of the six tasks")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--bundle", type=Path, help="a bundle of the reference model for Orin; made by default")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        bundle = (
            Bundle.open(options.bundle)
            if options.bundle
            else export("reference", target="orin", output=work / "bundle", calibration="builtin")
        )
        formats = written(bundle, work)
        answerer = TransformersAnswerer(bundle, load_compressed(work / "compressed-tensors"))
        with Session.open(bundle, max_context=SUITE_CONTEXT) as session:
            ours = evaluate(session, per_task=options.per_task)
        results = {
            "format_bytes": formats,
            "logits": logits_beside_ours(bundle, answerer, options.prompts),
            "accuracy": {
                "phiedge": ours.as_dict(),
                "transformers": evaluate(answerer, per_task=options.per_task).as_dict(),
            },
            "modelopt_packing": packed_by_modelopt(work / "modelopt"),
            "modelopt_export": exported_by_modelopt(work / "modelopt", work / "theirs"),
        }
    tools = {name: version(name) for name in ("compressed-tensors", "nvidia-modelopt", "transformers")}
    settings = {"suite": SUITE, "per_task": options.per_task, "prompts": options.prompts, **tools}
    publish("ecosystem-checkpoints", settings, results, keep=options.keep)


if __name__ == "__main__":
    main()
