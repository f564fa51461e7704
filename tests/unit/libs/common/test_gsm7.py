"""Any text comes into GSM-7, and septets and segments are counted as an operator counts them."""

# ruff: noqa: RUF001 -- look-alikes are the subject

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.gsm7 import BASIC, EXTENSION, economical, fits, segments, septets, shorten, transliterate

ANY_TEXT = st.text(alphabet=st.characters())
GSM7_TEXT = st.text(alphabet=st.sampled_from(sorted(BASIC | EXTENSION)))


def test_the_tables_are_as_long_as_the_standard_says() -> None:
    assert len(BASIC) == 127  # 128 with the escape
    assert len(EXTENSION) == 9  # 10 with the form feed


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("O’Neill’s", "O'Neill's"),
        ("“Best” – Cars — Ltd…", '"Best" - Cars - Ltd...'),
        ("Garçon Autos", "Garcon Autos"),
        ("Ánchê Sørens Kfz-Ö", "Anche Sørens Kfz-Ö"),
        ("e\u0301cole", "école"),
        ("Łódź Đorđe Ħal İzmir ığ", "Lodz Dorde Hal Izmir ig"),
        ("Straße ẞ Œuvre Þór", "Straße SS OEuvre Thor"),
        ("Kim\u00a0\u2009&\tSons\r\nLtd", "Kim & Sons Ltd"),
        ("\x1b[31mRed\x00\x07", "[31mRed"),
        ("\u200bZero\u200dwidth\ufeff", "Zerowidth"),
        ("🚗 Auto 🇬🇧 👩\u200d🔧", "Auto"),
        ("Δημήτρης Αθήνα", "ΔHMHTPHΣ AΘHNA"),
        ("Иванов и Сын", "Ivanov i Syn"),
        ("Йожеф Ёлка", "Yozhef Elka"),
        ("东京自動車", "DongJingZiDongChe"),
        ("گاراژ", "grzh"),
        ("한국 자동차", "HanGug JaDongCha"),
        ("कार मरम्मत", "kar mrmmt"),
        ("גראז", "gr'z"),
        ("ʻAla ⠃ ♥ 🅰", "'Ala"),
        ("№ 1 ½ ™ ﬁ 𝐀𝐁 Ⅳ ٣", "No 1 1/2 fi AB IV 3"),
        ("Auto 🈚🉐㊗ Ⓚ ㈱ ®©", "Auto"),
        ("{a} ^ ~ | \\ [€]", "{a} ^ ~ | \\ [€]"),
        ("\ud800lone", "lone"),
        ("", ""),
    ],
)
def test_a_name_is_written_as_a_reader_would_expect(written: str, sent: str) -> None:
    assert transliterate(written) == sent


@given(ANY_TEXT)
def test_whatever_comes_in_fits_and_stays_on_one_line(text: str) -> None:
    sent = transliterate(text)
    assert fits(sent)
    assert not set(sent) & set("\r\n\x1b\f")
    assert sent == " ".join(sent.split())


@given(ANY_TEXT)
def test_transliterating_twice_changes_nothing(text: str) -> None:
    assert transliterate(transliterate(text)) == transliterate(text)


@given(GSM7_TEXT, st.integers(min_value=-3, max_value=200))
def test_a_shortened_text_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert text.startswith(short)
    assert septets(short) <= max(limit, 0)


@given(GSM7_TEXT)
def test_a_text_within_the_limit_is_not_touched(text: str) -> None:
    assert shorten(text, septets(text)) == text


@given(GSM7_TEXT, GSM7_TEXT)
def test_septets_add_up(left: str, right: str) -> None:
    assert septets(left + right) == septets(left) + septets(right)


def test_a_character_outside_the_alphabet_has_no_price_and_is_not_named() -> None:
    with pytest.raises(ValueError, match="outside GSM-7") as raised:
        septets("a’b")
    assert "’" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # 306 septets, but the escape pair moves to the second part
        ("a" * 151 + "€" + "a" * 153, 2),  # two parts that are full
        ("ç" * 70, 1),
        ("ç" * 71, 2),
        ("🚗" * 35, 1),
        ("🚗" * 36, 2),
        ("🚗" * 33 + "ç" + "🚗" * 33 + "ç", 2),  # two parts that are full
        ("🚗" * 67, 3),  # 134 units, but 33 pairs are all that 67 units hold
    ],
)
def test_segments_are_counted_as_operators_count_them(text: str, parts: int) -> None:
    assert segments(text) == parts


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("It’s “ready” – call us…", 'It\'s "ready" - call us...'),
        ("It is ready.\nCall us.", "It is ready.\nCall us."),
        ("Ready\u00a0at 5\u202fpm\u200b", "Ready at 5 pm"),
        ("Cafe\u0301 um\t5\u3000Uhr", "Café um 5 Uhr"),
        ("A\u00adB\u200eC\u200fD\u200cE\u202aF\ufe0f \u034f", "ABCDEF "),
        ("e\u200b\u0301", "é"),
        ("1\u20102\u20113\u20124\u2e3a5\ufe586\uff0d7", "1-2-3-4-5-6-7"),
        ("a\u2028b", "a\nb"),
        ("It’s ready 🚗", "It’s ready 🚗"),  # it is Unicode in any case, and stays as it was written
        ("La voiture de François est l’été", "La voiture de François est l’été"),
    ],
)
def test_only_marks_are_changed_and_only_where_that_makes_the_text_cheap(written: str, sent: str) -> None:
    assert economical(written) == sent


@given(ANY_TEXT)
def test_the_economical_form_costs_no_more_and_changes_nothing_twice(text: str) -> None:
    sent = economical(text)
    assert segments(sent) <= segments(text)
    assert economical(sent) == sent
    assert sent == text or (fits(sent) and not fits(text))


def test_a_curly_quote_in_a_long_text_does_not_double_its_price() -> None:
    text = "a" * 458 + "’"
    assert segments(text) == 7
    assert segments(economical(text)) == 3
