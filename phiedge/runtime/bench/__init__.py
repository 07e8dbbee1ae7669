"""How fast a bundle is on the machine it stands on, beside what that machine could do at best.

plan.py      what is measured, and what is refused       running.py   the whole benchmark
cases.py     all cases within the time that there is     limits.py    the limit of each case
vision.py, prefill.py, first_token.py, decode.py         one case each
spread.py    median, p99, largest                        rows.py      from samples to rows
notes.py     what to mistrust                            report.py    the records, and JSON
"""

from phiedge.runtime.bench.plan import BenchPlan, plan_bench
from phiedge.runtime.bench.report import BenchReport
from phiedge.runtime.bench.running import bench

__all__ = ["BenchPlan", "BenchReport", "bench", "plan_bench"]
