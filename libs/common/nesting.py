"""The nesting depth of JSON, measured without recursion. Pure.

Python's own JSON reader and writer recurse, so their limit depends on the stack they are called on. Near the end of the
stack every finalizer that the garbage collector runs fails. So callers check the depth first, and ``DEEPEST`` leaves
most of the stack free.
"""

import re

DEEPEST = 300
"""The most levels of a JSON value for Python's own reader or writer."""

# An unterminated string matches to the end of the text, so each byte is read once.
_STEPS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def is_deeper(value: object, levels: int) -> bool:
    """Whether arrays and objects are nested in more than ``levels`` levels."""
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
    """The same for a text that is not parsed yet, and may be no JSON."""
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
