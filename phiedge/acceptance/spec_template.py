"""The commented spec that `phiedge accept --init` prints: it can be run as it stands, and is meant to be changed."""

TEMPLATE = """\
# What must this bundle keep, on this machine? Run it with: phiedge accept BUNDLE accept.toml
schema = "phiedge.accept/1"

[[workload]]                     # one kind of request; there may be several
name = "tick"
prompt = "Describe what you see in one sentence."
# pictures = ["screen.png"]      # files, named from the directory of this file
think = "off"                    # auto, on, off
max_new_tokens = 16
# When requests are meant to start; their latency counts from there, also if the one before was late.
#   { kind = "periodic", period_ms = 500 }             a control loop
#   { kind = "poisson", rate_hz = 0.5 }                events from outside
#   { kind = "closed", pause_ms = 1000 }               a person who waits for the answer before asking again
#   { kind = "trace", offsets_ms = [0, 120, 900] }     starts that were recorded, and round again
arrival = { kind = "closed", pause_ms = 0 }

[[budget]]                       # "99 of 100 requests have their first token within 2 s"
workload = "tick"                # or "*": each workload for itself
metric = "ttft_ms"               # ttft_ms, e2e_ms, token_mean_ms, token_max_ms (the slowest token of a request)
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
drift_max_share = 0.1            # a run that drifts by more than this share of its median is INVALID
seed = 0

[environment]                    # if this does not hold while it is measured, the verdict is INVALID
foreign_cpu_share_max = 0.1      # what other processes took, of all cores
swap_in_pages_max = 0
# memory_available_bytes_min = 500_000_000

[coload]                         # what else shall work meanwhile
cpu_threads = 0
"""
