"""Checkpoints that other engines load, each a lossless repack of a bundle.

repack.py           the formats by name, and the one function that writes them
  awq.py            int4, unfused: TensorRT Edge-LLM on Orin, vLLM
  modelopt.py       int4 and FP8, unfused: TensorRT-LLM's PyTorch backend, Edge-LLM
  compressed.py     the whole model under the publisher's names: vLLM
  trtllm_legacy.py  what `trtllm-build` takes
  text_model.py     the decoder as the Llama that they know
  plain_tensors.py  norms, embeddings, head
  stored.py         a bundle's weights, read back by name
readers.py          what engines would misread, refused by name
tensor_index.py     what a checkpoint's files hold
tensor_file.py      safetensors, written one tensor after the other
tokenizer_files.py  tokenizer, template, and what ends an answer
directory.py        a directory that is there whole or not at all

Nothing here needs torch, ONNX or safetensors.
"""

from phiedge.exporters.checkpoints.repack import FORMATS, check_format, check_holds, write_checkpoint

__all__ = ["FORMATS", "check_format", "check_holds", "write_checkpoint"]
