"""TensorRT-LLM: which version is here, its build of an engine as a process, and whether it loads a checkpoint.

installation.py  what is installed, and which of its two ways it has
build_tool.py    `trtllm-build`, up to 1.2: run, watched, its output verified
load_check.py    the PyTorch backend, from 1.3 on: one token of a checkpoint, in a process of its own
commands.py      what to run on a machine that has it, where this one has not

It takes the text decoder. Pictures need their rows as prompt embeddings; docs/guides/ecosystem.md says how far that
goes. Nothing of this has run on a GPU.
"""
