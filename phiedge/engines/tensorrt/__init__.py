"""TensorRT and TensorRT-RTX: building engines of the bundle's `tensorrt` dialects, and running them.

What is there:

    library.py         the two Python modules, imported when asked for, or what is missing
    capabilities.py    what one release can do that another cannot, as flags
    driver.py          NVIDIA's driver, asked which GPU is here
    ports.py           what goes into engines and what comes out
    built.py           engines in a bundle: names, records, and which one a GPU may run

Building:

    families.py        which GPUs share an engine, and what they have no kernels for
    building.py        what is built for a bundle, planned and refused before it starts
    worker_process.py  starting the process that builds an engine    request.py   what the two say to each other
    worker.py          that process                                  engine_build.py   what it does
    network_walk.py    is the network what the graph says?           build_log.py      is the engine?
    callbacks.py       what TensorRT calls while it builds           build_progress.py how far it is
    timing_cache.py    what the full TensorRT measured, kept for the next build
    workspace.py       how much memory its kernels may take on a Jetson

Running begins in opening.py; decoder.py and vision.py are the engines of `phiedge.engines.interface`.
"""
