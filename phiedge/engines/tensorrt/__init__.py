"""TensorRT: what its builder made of the graphs of the `tensorrt` dialect. Nothing here builds or runs an engine yet.

build_log.py   the builder's detailed log as data, and what must be true of it
"""
