"""From a checkpoint to graphs and weights that an engine can load.

    config.py, section.py, json_object.py   config.json and its companions, read strictly
    tokenizer.py                            the special tokens that the prompt protocol stands on
    tensors.py                              every tensor that the architecture has, and which of them it uses
    checkpoint.py, weight_files.py, safetensors_file.py   the weights, read lazily and checked
    hub.py                                  a Hub id, downloaded as data only
    graph_io.py                             what goes into each graph and comes out, stated once
    optimum.py                              the same statement for Hugging Face Optimum
    vision.py, decoder.py, attention_op.py  the modules that are traced
    trace.py, dialects/                     tracing, and one family of engines each
    weights.py, precision.py                the weights, streamed out at a precision

Nothing from a checkpoint is ever executed: no pickle, no remote code. Modules that need torch or Optimum are imported
by whoever needs them, not here.
"""
