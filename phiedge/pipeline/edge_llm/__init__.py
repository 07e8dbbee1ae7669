"""What a build for TensorRT Edge-LLM is held against, on a machine without a GPU: our own numbers.

weights_check.py        every weight of the exporter's graph, to the last bit
request_rows.py         a question as the rows that its runtime would put into the decoder
language_check.py       the decoder's graph against our decoder's logits
vision_check.py         our packed vision graph against our vision graph, several pictures at a time
taps.py                 how its runtime samples positions
piecewise.py            a graph on ONNX's reference evaluator, with weights of a piece at a time
reference_operators.py  its operators in numpy
"""
