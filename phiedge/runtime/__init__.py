"""The runtime: from a prompt and pictures to an answer, with nothing on the machine but numpy, ONNX Runtime and Pillow.

    session.py        the one door: open, generate, stream, logits, cancel, close
    request.py        the options of a request        result.py      events, results, timings
    images.py         pictures of any kind to RGB     preprocess.py  pixels to patches
    positions.py      position embeddings of a grid   merge.py       which row of the input is what
    chat_template.py  sandboxed Jinja                 prompt.py      questions to token ids
    tokens.py         text to ids and back            transcript.py  ids to thinking and answer
    loaded_model.py   engines, tables and buffers     embeddings.py  memory-mapped tables
    kv_cache.py       how much of the cache counts      sampling.py    the next token
    stopwatch.py      where the time went             budget.py      what may be asked of the clock
    goldens.py        what a bundle answered where it was made

The public names among these are names of `phiedge` itself.
"""
