"""The two graphs of a bundle on ONNX Runtime. No other package imports onnxruntime.

library.py         onnxruntime, imported so that it keeps nothing and sends nothing
provider.py        where a session computes: an execution provider and its options
graph_run.py       one graph: opened, checked against the facts, run, stopped
decoder_ports.py   the decoder graph's inputs and outputs, bound and held against the facts
vision.py          the vision engine, on any provider

opening.py         both on the CPU                 cuda.py             both on CUDA, or what is missing for it
decoder.py         the decoder engine, in place    device_decoder.py   the same on a device, its step recorded
buffers.py         memory of the host, in place    device_buffers.py   memory of a device, and copies
memory_need.py     what opening takes              device_thread.py    the one thread of a device

built.py           an engine built for this processor
product_rates.py   how fast this processor is     device_rates.py     how fast a device is; graphs from one_node.py
"""
