"""The reference model: a small trained model of exactly the published architecture, and the world it was trained on.

model/          the checkpoint, a normal Hugging Face-style directory
scenes.py       pictures of kiosk screens and shelves, drawn from a seed
questions.py    questions about them, with answers and reasons
evaluate.py     held-out accuracy by task
network.py, blueprint.py, train.py    how the checkpoint was made (these need torch; nothing else imports them)
"""

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"
