"""SQL text, cut into its statements. Pure.

Knows quotes, quoted names, dollar quotes and comments; not the bodies that ``begin atomic`` opens, which belong into a
dollar quote here.
"""

import re

_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$)
    | (?P<end>;)
    | (?P<word>\w+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def statements(sql: str) -> list[str]:
    """The statements in order, without semicolons and leading comments. Pieces of comments alone are left out."""
    found: list[str] = []
    begun, at, holds = 0, 0, False
    while (token := _TOKEN.search(sql, at)) is not None:
        if not holds and sql[at : token.start()].strip():
            begun, holds = at, True
        at = token.end()
        match token.lastgroup:
            case "comment":
                at = _comment_end(sql, token)
                continue
            case "end":
                if holds:
                    found.append(sql[begun : token.start()].strip())
                holds = False
                continue
            case "dollar":
                closing = sql.find(token.group(), at)
                at = len(sql) if closing < 0 else closing + len(token.group())
            case _:
                pass
        if not holds:
            begun, holds = token.start(), True
    if holds or sql[at:].strip():
        found.append(sql[begun if holds else at :].strip())
    return found


def _comment_end(sql: str, token: re.Match[str]) -> int:
    """Where the comment that ``token`` begins is over; those between stars may stand within each other."""
    if token.group() != "/*":
        return token.end()
    depth, at = 1, token.end()
    while depth and (edge := _COMMENT_EDGE.search(sql, at)) is not None:
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at if depth == 0 else len(sql)
