"""Numbers as an SMS provider shows them. Pure.

A provider may mask a number, leave it out, or write the same line as it is dialled elsewhere (Mexico's 1, Argentina's
9, Brazil's ninth digit).
"""

from libs.common.phone import same_line, spellings


def shows_number(shown: str | None, number: str) -> bool:
    """Whether a number as it is shown is this one for certain. One that is left out is the one that was asked for."""
    return not shown or shown == number or same_line(shown, number)


def may_show_number(shown: str | None, number: str) -> bool:
    """Whether it may be this one: it is, or it is missing or masked and what is left of it agrees."""
    if shows_number(shown, number):
        return True
    if not shown or ":" in shown:  # an address of another channel
        return False
    bare = shown.removeprefix("+")
    visible = next((at for at, char in enumerate(bare) if not char.isdigit()), len(bare))
    if visible == len(bare) or not number.removeprefix("+").isdigit():
        return False
    return any(spelling.removeprefix("+").startswith(bare[:visible]) for spelling in spellings(number))
