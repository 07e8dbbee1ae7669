"""Dialects: the traced graph in the operators that one family of engines runs best.

    ort/         ONNX Runtime: fused attention with the cache in place, integer matrix products, fused norms
    rewrite.py   the two moves that every pass is made of

A dialect is two functions that rewrite a `GraphDraft` in place; `phiedge.exporters.graphs.DIALECTS` lists them.
"""
