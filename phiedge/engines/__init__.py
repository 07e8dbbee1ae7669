"""Engines: what computes the vision and the decoder graph of a bundle.

    interface.py    what the runtime asks of an engine
    backends.py     the backends by name, each imported only when it is opened
    onnxruntime/    ONNX Runtime
    tensorrt/       TensorRT: reading what its builder says; no engine of it is built or run yet
    aligned.py      arrays that kernels use in place        threads.py    how many threads

An engine takes and gives numpy arrays that the runtime owns; the cache of keys and values is its own. It knows nothing
of prompts, pictures or sampling.
"""
