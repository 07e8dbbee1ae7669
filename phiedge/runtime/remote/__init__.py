"""Answers from an OpenAI-compatible server that has one of our checkpoints: vLLM, or TensorRT-LLM for text.

session.py    the surface of `Session`, over a server
pace.py       what its requests took lately, for deadlines to be decided by
bodies.py     what is sent
forms.py      how a server is told the form of an answer
edge_llm.py   the same over TensorRT Edge-LLM's own runtime, in this process
endpoint.py   HTTP, and events as they come; the standard library only

None of it has run against a real vLLM or TensorRT-LLM: it was tried against a server that does as their sources say.
"""
