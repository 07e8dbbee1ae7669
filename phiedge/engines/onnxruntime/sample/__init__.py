"""A few layers of a model's shape, with weights that mean nothing, to learn how long the whole model would take here.

plain_graph.py   an ONNX graph, written without the onnx package
decoder.py       layers of the decoder, as the exporter writes them for ONNX Runtime
vision.py        blocks of the vision encoder, likewise
timing.py        how long a graph takes
sampling.py      from the times of few layers to those of the whole model
"""
