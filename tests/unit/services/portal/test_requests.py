"""Where a page of the portal leads back to."""

import pytest

from services.portal.requests import path_to_try_again


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/conversation", "/conversation"),
        ("/conversation/messages", "/conversation"),
        ("/conversation/events", "/conversation"),
        ("/aB3dE6gH9kL", "/aB3dE6gH9kL"),
        ("//evil.example", None),
        ("//evil/conv", None),
        ("/\\evil.example", None),
        ("/evil.ex/abc", None),
        ("/aB3dE6gH9kL\n", None),
        ("/aB3dE6gH9kLm", None),
        ("/", None),
    ],
)
def test_a_page_leads_back_to_a_path_of_the_portal_alone(path: str, leads_to: str | None) -> None:
    assert path_to_try_again(path) == leads_to
