"""The decoder on OpenVINO, for x86 processors: the weights of the bundle, as they are, in OpenVINO's own operators.

    library.py   openvino, or which extra to install
    weights.py   the weights of an ONNX graph, mapped, without the onnx package
    graph.py     the decoder as an OpenVINO model over these weights
    paged_cache.py  the cache that it reads and writes
    decoder.py   runs it
    opening.py   both engines of a bundle: the vision graph stays on ONNX Runtime

Why another library beside ONNX Runtime: docs/decisions/0703-why-openvino-beside-onnx-runtime.md.
"""
