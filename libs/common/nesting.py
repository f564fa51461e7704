"""How deeply JSON is nested, found out without recursion. Pure.

Python's own reader and writer of JSON recurse, and what they can do depends on the stack they are called on. Near its end every finalizer that the
garbage collector runs there fails. So whoever uses them asks first, and ``DEEPEST`` leaves most of the stack free.
"""

import re

DEEPEST = 300
"""What goes through Python's own reader or writer of JSON is nested in no more levels."""

_STEPS = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL
)  # a text without its end goes to the end: each byte is read once


def is_deeper(value: object, levels: int) -> bool:
    """Whether there are arrays and objects in each other, more than ``levels`` of them."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not containers:
            return False
        containers = [
            inner
            for one in containers
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    return bool(containers)


def text_is_deeper(text: bytes | bytearray, levels: int) -> bool:
    """The same of a JSON text that nobody has read yet, and that may be none."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    depth = 0
    for step in _STEPS.finditer(text):
        match step[0][:1]:
            case b"[" | b"{":
                depth += 1
                if depth > levels:
                    return True
            case b"]" | b"}":
                depth -= 1
    return False
