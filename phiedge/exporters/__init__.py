"""From a checkpoint to graphs and weights that an engine can load.

    checkpoint.py          a checkpoint, open: its configuration, its tensors, their checks
      hub.py               a Hub id, downloaded as data only
      config.py            config.json, read strictly, with vision_config.py, companions.py and tokenizer.py beside it
      section.py, json_object.py   how such files are read
      tensors.py           every tensor that the architecture has, and which of them it uses
      weight_files.py, safetensors_file.py   which files hold them, and how one is read
    graphs.py              the export of both graphs: trace, rewrite, stream the weights out
      graph_io.py          what goes into each graph and comes out, stated once
      vision.py, decoder.py, attention_op.py, rotary.py   what is traced
      trace.py, draft.py, node_names.py      tracing, and the graph on its way
      dialects/            what one family of engines makes of it
      weights.py, tables.py, precision.py, quantised.py   the weights, written at a precision
    optimum.py             what graph_io.py states, for Hugging Face Optimum

Nothing from a checkpoint is ever executed: no pickle, no remote code. Modules that need torch or Optimum are imported
by whoever needs them, not here.
"""
