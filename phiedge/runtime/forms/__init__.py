"""Answers of a form: what a form is, the grammar it makes, and the way that an answer follows it.

- `form.py`      the forms a caller can ask for, as values
- `grammar.py`   a form compiled for one tokenizer, by the library llguidance (the extra `structured`)
- `closing.py`   the shortest way to end an answer that is not finished
- `following.py` one answer that keeps to its form, and ends in time
- `ending.py`    whether an answer that was written elsewhere has its form, and what it lacks
"""
