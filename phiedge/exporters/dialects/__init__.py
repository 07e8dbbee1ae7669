"""Dialects: the traced graph in the operators that one family of engines runs best.

    ort/         ONNX Runtime: fused attention with the cache in place, integer matrix products, fused norms
    tensorrt/    TensorRT: standard operators only, a cache of fixed capacity, int4 blocks that its kernels dequantise
    linear.py    the linears that a plan wants in groups of integers
    rewrite.py   the moves that passes are made of

A dialect is two functions that rewrite a `GraphDraft` in place; `phiedge.exporters.graphs.DIALECTS` lists them.
"""
