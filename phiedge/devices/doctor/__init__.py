"""What on this machine will hurt latency, each with why it does and the command that mends it.

It looks and says; it changes nothing. What it cannot see without more rights it lists as unknown, and does not guess.
"""

from phiedge.devices.doctor.diagnosis import diagnose
from phiedge.devices.doctor.finding import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
