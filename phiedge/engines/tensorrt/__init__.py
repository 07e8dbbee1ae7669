"""TensorRT and TensorRT-RTX: what their builders make of the graphs of the bundle's `tensorrt` dialects.

build_log.py      the builder's detailed log as data, and what must be true of it
capabilities.py   what one release can do that another cannot, as flags
driver.py         NVIDIA's driver, asked which GPU is here
library.py        the two Python modules, imported when asked for, or what is missing
"""
