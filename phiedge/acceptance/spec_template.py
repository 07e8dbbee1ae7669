"""The commented spec that `phiedge accept --init` prints: it can be run as it stands, and is meant to be changed.

For a target, its limits are what is planned there and a quarter more, and its environment is what its sensors tell.
"""

import re

from phiedge.devices import Device

PROMPT_TOKENS, ANSWER_TOKENS = 460, 16  # of the template's request, with the publisher's own chat template
_ROOM = 1.25
_JETSON = ("power_mode", "clock_shift_max", "celsius_max", "over_current_events_max")
_CARD = ("clock_shift_max", "celsius_max", "throttled_samples_max")

TEMPLATE = """\
# What must this bundle keep, on this machine? Run it with: phiedge accept BUNDLE accept.toml
schema = "phiedge.accept/1"

[[workload]]                     # one kind of request; there may be several
name = "tick"
prompt = "Describe what you see in one sentence."
# pictures = ["screen.png"]      # files, named from the directory of this file
# cases = "questions.jsonl"      # in place of prompt and pictures: questions with answers, for [[accuracy]]
think = "off"                    # auto, on, off
max_new_tokens = 16
# choice = ["yes", "no"]         # a form of the answer: or pattern = "...", schema = "answer.json", box = true,
                                 # point = true; only what parses is an answer
# deadline_ms = 3000             # the session keeps it, from the intended start: see overrun_ms and answer_ms
# answer_tokens = 16             # the room that the deadline keeps for the answer
# on_infeasible = "degrade"      # or "refuse": what the session does where it cannot be met
# cancel_after_ms = 500          # cancel each request, at a moment up to that: see abort_ms
# When requests are meant to start; their latency counts from there, also if the one before was late.
#   { kind = "periodic", period_ms = 500 }             a control loop
#   { kind = "poisson", rate_hz = 0.5 }                events from outside
#   { kind = "closed", pause_ms = 1000 }               a person who waits for the answer before asking again
#   { kind = "trace", offsets_ms = [0, 120, 900] }     starts that were recorded, and round again
arrival = { kind = "closed", pause_ms = 0 }

[[budget]]                       # "99 of 100 requests have their first token within 2 s"
workload = "tick"                # or "*": each workload for itself
metric = "ttft_ms"               # ttft_ms, e2e_ms, token_mean_ms, token_max_ms (the slowest token of a request),
                                 # answer_ms (to the end of an answer that was not cut), overrun_ms, abort_ms
quantile = 0.99
limit_ms = 2000

[[budget]]
workload = "tick"
metric = "e2e_ms"
quantile = 0.95
limit_ms = 5000
# weakly_hard = { misses = 1, of = 10 }    # and never more than 1 miss in any 10 requests in a row

# [[jitter]]                     # from the median to the quantile; for fixed plans
# workload = "tick"
# metric = "e2e_ms"
# quantile = 0.95
# limit_ms = 300

# [[accuracy]]                   # "80 of 100 such questions are answered rightly, within 3 s"
# workload = "quiz"              # one with cases
# at_least = 0.8
# limit_ms = 3000

# [[memory]]                     # the most that was seen
# metric = "peak_rss_bytes"      # of this process; system_bytes: what the system lost; gpu_bytes: what cards had in use
# limit_bytes = 2_000_000_000

# [cold_start]                   # new processes, with the bundle dropped from the page cache, to their first token
# quantile = 0.9
# limit_ms = 10_000
# allowed_misses = 0

[statistics]
confidence = 0.95                # a PASS and a FAIL are each wrong at most once in twenty times
plan = "sequential"              # stops as soon as it knows; "fixed" takes as many as allowed_misses need
max_requests = 2000              # of each workload, sequential only
# allowed_misses = 2             # fixed only: 0 is the shortest plan, more forgive more
clustering = 0.0                 # the highest P(miss | previous miss) to allow for; boards have shown 0.74
block_requests = 1               # above 1: blocks of so many requests are the samples, whatever happens in them
multiplicity = "holm"            # or "none": each budget at the full confidence for itself
warmup_requests = 5              # after each start, not counted
restarts = 0                     # close and open the bundle so often during the run
drift_max_share = 0.1            # a larger change, as a share of the median, makes INVALID what it could turn
seed = 0

[environment]                    # if this does not hold while it is measured, the verdict is INVALID
foreign_cpu_share_max = 0.1      # what other processes took, of all cores
swap_in_pages_max = 0
# memory_available_bytes_min = 500_000_000
# power_mode = "MAXN"            # and what sensors tell, where there are any:
# core_mhz_min = 1500
# gpu_mhz_min = 1200
# memory_mhz_min = 3199
# clock_shift_max = 0.03         # of the highest that was seen
# celsius_start_max = 60
# celsius_max = 90
# watts_max = 60
# throttled_samples_max = 0      # seconds in which a card was held down
# over_current_events_max = 0

[coload]                         # what else shall work meanwhile
cpu_threads = 0
memory_threads = 0               # these copy memory
# memory_gbps = 4                # together, read and written; not reached is INVALID
"""


def template_for(device: Device, *, first_token_ms: float, total_ms: float) -> str:
    """The spec for a device, where its first token and its whole answer are planned to take so long."""
    limits = {"2000": _rounded(_ROOM * first_token_ms), "5000": _rounded(_ROOM * total_ms)}
    text = TEMPLATE.replace("on this machine?", f"on {device.title}?", 1)
    for old, new in limits.items():
        text = text.replace(f"limit_ms = {old}\n", f"limit_ms = {new}{' ' * 12}# {_ROOM:g} times what is planned\n", 1)
    if device.power_modes is not None:
        text = text.replace('power_mode = "MAXN"', f'power_mode = "{device.power_modes.value[0]}"')
    for key in _JETSON if device.power_modes is not None else _CARD:
        text = re.sub(rf"^# ({key} = )", r"\1", text, count=1, flags=re.MULTILINE)
    return text


def _rounded(ms: float) -> int:
    """Two figures are enough for a start, and never none."""
    return max(1, int(float(f"{ms:.2g}")))
