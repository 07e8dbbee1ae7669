"""Latency profiles: what this machine takes for each part of a request, measured, fitted, stored and found again.

measuring.py    the parts of a request, at points that span what it may be asked
fitting.py      from samples to coefficients and a bound
profiling.py    both, and then requests that were not measured, to tell how good it is
identity.py     what a profile depends on
store.py        profiles in a bundle
"""
