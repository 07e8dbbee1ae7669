"""Samples of a machine while something is measured on it, taken by a process of its own.

sample.py         one moment              sampler.py   the process that takes them
disturbances.py   what makes a measurement one of something else
"""

from phiedge.devices.telemetry.disturbances import disturbances
from phiedge.devices.telemetry.sample import Sample
from phiedge.devices.telemetry.sampler import Sampler

__all__ = ["Sample", "Sampler", "disturbances"]
