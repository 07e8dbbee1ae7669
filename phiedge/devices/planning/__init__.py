"""Plans: whether a model fits a device, and how long it would take there, before anything is exported.

published.py   what other engines were measured to reach, from published.toml
efficiency.py  from those measurements to the share of a limit that is planned
storage.py     what a model takes     memory.py   whether that fits
speeds.py      what a device can do   time.py     how long a request takes
plan.py        all of it together     advice.py   what to change      fit.py   the question of an export
"""

from phiedge.devices.planning.plan import Plan, Task, Verdict, make_plan

__all__ = ["Plan", "Task", "Verdict", "make_plan"]
