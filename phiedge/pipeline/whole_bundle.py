"""That no engine is ever made of a damaged bundle."""

from phiedge.bundle import Bundle
from phiedge.errors import IntegrityError
from phiedge.progress import Progress


def require_whole(bundle: Bundle, progress: Progress) -> None:
    """Hash every file of the bundle. Raises `IntegrityError` naming the first that is not as it was written."""
    problems = bundle.check_files(progress)
    if problems:
        first = problems[0]
        raise IntegrityError(
            f"{bundle.path} is not as it was written: {first.path} is {first.kind} ({first.detail})",
            remedy="copy or export the bundle again",
        )
