"""The two graphs of a bundle on ONNX Runtime. No other package imports onnxruntime.

library.py    onnxruntime, imported so that it keeps nothing and sends nothing
graph_run.py  one graph: opened, checked against the facts, run, stopped
vision.py     the vision engine            decoder.py   the decoder engine
buffers.py    what is bound to the graphs: memory of the host, in place
"""
