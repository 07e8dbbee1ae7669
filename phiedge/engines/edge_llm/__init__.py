"""TensorRT Edge-LLM, NVIDIA's engine for Jetson Orin: what its exporter is given, told, and held to.

    versions.py      the release whose files phiedge knows, and what its graph of a decoder has to be
    tool.py          an environment of its own for the exporter: found, checked, or made
    run.py           the exporter as a process that ends with this one
    messages.py      what the exporter says, and what of it means that a model was lost
    unsafe.py        checkpoints that it would corrupt without an error
    fragments.py     how it stores 4-bit codes
    structure.py     the decoder's graph held against what it has to be
    device_files.py  the configurations that its builder and runtime read on the device
    built.py         the record, and the commands for the device

Nothing of TensorRT runs here: the files are for the device, where Edge-LLM builds engines from them.
"""
