"""`quantization.html`: the report of a bundle as a page to look at, which needs nothing beside itself.

page.py          what stands in which order       charts.py    drawings from numbers
layers.py        what calibration saw and lost    figures.py   tables of numbers
alternatives.py  what more bytes would buy        style.py     how it looks
cache.py         what keys and values lose in 8 bits

A section that the report has not is left out, and one that nobody here knows becomes a table.
"""

from phiedge.pipeline.report_page.page import report_page

__all__ = ["report_page"]
