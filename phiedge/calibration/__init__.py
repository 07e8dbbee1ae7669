"""Choosing the small integers and scales that stand for a model's weights.

    int4.py     symmetric round-to-nearest in groups, 4 and 8 bits
    report.py   what quantisation did to every tensor

What a quantised weight is, and who consumes it, stands in `phiedge.exporters.quantised`.
"""
