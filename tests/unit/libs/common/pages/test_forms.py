"""What a browser posts is read as browsers write it, whatever its length."""

from urllib.parse import parse_qs, urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.pages.forms import FEW_FIELDS, fields_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(TEXTS, TEXTS, max_size=FEW_FIELDS))
@example({"text": "a+b c%41&d=e\r\n🚗"})
def test_what_was_written_is_read(fields: dict[str, str]) -> None:
    assert fields_of(urlencode(fields).encode()) == fields


@given(
    st.lists(st.sampled_from([b"%", b"4", b"1", b"a", b"%C3", b"%BC", b"+", b"=", b"&", b";", b"\xff"]), max_size=30)
)
@example([b"=v", b"&&", b"a&a=1&a="])
def test_any_bytes_are_read_as_the_standard_library_reads_them(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    try:
        known = parse_qs(body, keep_blank_values=True, errors="replace", max_num_fields=FEW_FIELDS)
    except (ValueError, UnicodeDecodeError):
        known = None
    if known is not None:
        expected = {
            name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace") for name, values in known.items()
        }
        assert fields_of(body) == expected


def test_a_form_has_few_fields() -> None:
    body = "&".join(f"f{n}={n}" for n in range(FEW_FIELDS))
    assert len(fields_of(body.encode())) == FEW_FIELDS
    assert fields_of(f"{body}&one=more".encode()) == {}
