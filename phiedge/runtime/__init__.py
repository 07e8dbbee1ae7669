"""The runtime: from a prompt and pictures to an answer, with nothing on the machine but numpy, ONNX Runtime and Pillow.

    session.py        the one door: open, generate, stream, logits, cancel, close
    request.py        the options of a request        result.py      events, results, timings
    images.py         pictures of any kind to RGB     preprocess.py  pixels to patches
    positions.py      position embeddings of a grid   merge.py       which row of the input is what
    chat_template.py  sandboxed Jinja                 prompt.py      questions to token ids
    tokens.py         text to ids and back            transcript.py  ids to thinking and answer
    loaded_model.py   engines, tables and buffers     embeddings.py  memory-mapped tables
    kv_cache.py       how much of the cache counts      sampling.py    the next token
    stopwatch.py      where the time went             goldens.py     what a bundle answered where it was made
    preparing.py      a request, ready to run         camera.py      the newest frame of a source that does not wait

    budget.py         what may be asked of the clock  latency_model.py  what each part takes on this machine
    admission.py      decides before it runs          plan.py           what was decided
    deadline.py       keeps it while it runs          pace.py           what the next tokens will take
    watchdog.py       ends what does not come back    control.py        all of these, held by a session
    profile/          measures the latency model      realtime.py       what a system can do for a quieter process

The public names among these are names of `phiedge` itself.
"""
