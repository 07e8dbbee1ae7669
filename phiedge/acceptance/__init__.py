"""Does a bundle on this machine meet its latency budget? Statistics, specification, campaign, evidence and reports.

What is here knows a session only as something that answers requests (`requester`), so that its error rates can be
shown with simulated ones.
"""
