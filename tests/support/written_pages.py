"""Pages as tests read them: elements, attributes and text."""

from html.parser import HTMLParser

CANARY = "<img src=x onerror=alert(1)>\"'`</textarea><script>alert(1)</script>{{7*7}}"
"""What people may write anywhere. No page may take any of it for its own."""


class Read(HTMLParser):
    """The elements of a page with their attributes, in order; its text; and whether every element was closed."""

    VOID = frozenset({"meta", "link", "input", "path", "circle", "rect", "use", "img"})

    INLINE = frozenset({"a", "b", "bdi", "code", "mark", "time"})
    """What stands in a sentence. Around everything else there is a gap."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += self._gap(tag)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += self._gap(tag)
        assert self._open.pop() == tag

    def _gap(self, tag: str) -> str:
        return "" if tag in self.INLINE else " "

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(page: str) -> str:
    """The text, with single spaces."""
    return " ".join(Read(page).text.split())
