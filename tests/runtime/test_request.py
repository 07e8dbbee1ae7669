import pytest

from phiedge.errors import UsageError
from phiedge.runtime.request import Request


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"think": "maybe"}, "no think mode 'maybe'"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_visual_tokens": 0}, "max_visual_tokens must be at least 1, not 0"),
        ({"raw": True, "think": "on"}, "does not combine with a raw prompt"),
        ({"raw": True, "history": [{"role": "user", "content": "x"}]}, "does not combine with a raw prompt"),
    ],
)
def test_options_that_do_not_exist_or_combine_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request(prompt="hi", **options)
