"""Engines: each runs the vision and the decoder graph of a bundle on one inference library.

An engine takes and gives numpy arrays that the runtime owns. It knows nothing of prompts, pictures or sampling.
"""
