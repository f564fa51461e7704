"""The icons of pages: lines of a 16 by 16 box, drawn by the style ``.i``. Pure.

A page has each one that it uses once, as a ``<symbol>`` (``sprite`` in ``bits.html``).
"""

from markupsafe import Markup

ICONS = {
    "ai": Markup(
        '<path d="M8 2v2.2M8 11.8V14M2 8h2.2M11.8 8H14"/><path d="M8 5.2 9 7l1.8 1L9 9l-1 1.8L7 9 5.2 8 7 7z"/>'
    ),
    "alert": Markup('<circle cx="8" cy="8" r="6"/><path d="M8 4.9v3.6M8 11v.1"/>'),
    "all": Markup('<path d="M2 9.5 4 3h8l2 6.5V13H2z"/><path d="M2 9.5h3.5l1 1.75h3l1-1.75H14"/>'),
    "back": Markup('<path d="M13 8H3.25M7.25 4l-4 4 4 4"/>'),
    "cart": Markup('<path d="M1.5 2.5h2l1.6 7.5h7l1.4-5.5H4"/><path d="M6 13.1h.1M11.4 13.1h.1"/>'),
    "check": Markup('<path d="m3 8.5 3.25 3.25L13 4.75"/>'),
    "checks": Markup('<path d="m1 8.5 3 3 6-6.5M7.75 11l.75.5L15 5"/>'),
    "clock": Markup('<circle cx="8" cy="8" r="6"/><path d="M8 4.75V8l2.25 1.5"/>'),
    "close": Markup('<path d="m3.75 3.75 8.5 8.5M12.25 3.75l-8.5 8.5"/>'),
    "dot": Markup('<circle cx="8" cy="8" r="6"/><circle cx="8" cy="8" r="1.75" fill="currentcolor"/>'),
    "down": Markup('<path d="M8 2.5v8M4.75 7.5 8 10.75l3.25-3.25M2.5 13.5h11"/>'),
    "eye": Markup(
        '<path d="M1.5 8S4 3.75 8 3.75 14.5 8 14.5 8 12 12.25 8 12.25 1.5 8 1.5 8z"/><circle cx="8" cy="8" r="1.9"/>'
    ),
    "file": Markup('<path d="M3.5 2h6L12.5 5v9h-9z"/><path d="M9.25 2v3.25h3.25"/>'),
    "hour": Markup('<path d="M4 2.25h8M4 13.75h8M5 2.5c0 3.5 6 4 6 5.5s-6 2-6 5.5M11 2.5c0 3.5-6 4-6 5.5s6 2 6 5.5"/>'),
    "image": Markup('<path d="M2 3h12v10H2zM2 11l3.5-3 3 2.5L11 8l3 3"/>'),
    "info": Markup('<circle cx="8" cy="8" r="6"/><path d="M8 7.4v3.6M8 5v.1"/>'),
    "list": Markup('<path d="M5.5 4H14M5.5 8H14M5.5 12H14M2.5 4h.1M2.5 8h.1M2.5 12h.1"/>'),
    "mic": Markup(
        '<rect x="6" y="1.75" width="4" height="7.5" rx="2"/><path d="M3.5 7.5a4.5 4.5 0 0 0 9 0M8 12v2.25"/>'
    ),
    "pause": Markup('<path d="M5.5 3.5v9M10.5 3.5v9"/>'),
    "pencil": Markup('<path d="m3 13 .75-3L10.5 3.25l2.25 2.25L6 12.25z"/>'),
    "person": Markup('<circle cx="8" cy="5.25" r="2.75"/><path d="M2.75 13.75c.6-2.7 2.6-4 5.25-4s4.65 1.3 5.25 4"/>'),
    "pin": Markup(
        '<path d="M8 14s-4.75-4.4-4.75-7.75a4.75 4.75 0 0 1 9.5 0C12.75 9.6 8 14 8 14z"/>'
        '<circle cx="8" cy="6.25" r="1.6"/>'
    ),
    "place": Markup(
        '<path d="M8 14.5S3.5 10 3.5 6.5a4.5 4.5 0 0 1 9 0C12.5 10 8 14.5 8 14.5z"/><circle cx="8" cy="6.5" r="1.5"/>'
    ),
    "plus": Markup('<path d="M8 3v10M3 8h10"/>'),
    "portal": Markup(
        '<rect x="2" y="2.75" width="12" height="10.5" rx="1.5"/><path d="M2 6h12M4.4 4.4h.1M6.4 4.4h.1"/>'
    ),
    "search": Markup('<circle cx="7" cy="7" r="4.25"/><path d="m10.25 10.25 3.25 3.25"/>'),
    "send": Markup('<path d="M2.25 3 14 8 2.25 13l1.5-5z"/><path d="M3.75 8H9"/>'),
    "shut": Markup('<rect x="2.75" y="2.75" width="10.5" height="10.5" rx="1.5"/><path d="M8 2.75v10.5M2.75 8h10.5"/>'),
    "sms": Markup('<path d="M2 3h12v8H7.5L4.5 13.5V11H2z"/><path d="M5 7h.1M8 7h.1M11 7h.1"/>'),
    "sound": Markup('<path d="M3 6.5v3M6 4v8M9 5.5v5M12 3v10"/>'),
    "spend": Markup('<path d="M2.5 13.5h11M4 11V8M8 11V3.5M12 11V6"/>'),
    "sync": Markup(
        '<path d="M13.5 8a5.5 5.5 0 0 1-9.9 3.3M2.5 8a5.5 5.5 0 0 1 9.9-3.3"/>'
        '<path d="M12.75 1.75v3h-3M3.25 14.25v-3h3"/>'
    ),
    "system": Markup(
        '<circle cx="8" cy="8" r="2"/>'
        '<path d="M8 2v2M8 12v2M2 8h2M12 8h2M3.8 3.8l1.4 1.4M10.8 10.8l1.4 1.4M12.2 3.8l-1.4 1.4M5.2 10.8l-1.'
        '4 1.4"/>'
    ),
    "tap": Markup('<rect x="1.75" y="4.5" width="12.5" height="7" rx="2"/><path d="M5 8h6"/>'),
    "template": Markup(
        '<rect x="2.5" y="2" width="11" height="12" rx="1.5"/><path d="M5.25 5.25h5.5M5.25 8h5.5M5.25 10.75h3"/>'
    ),
    "trash": Markup('<path d="M2.75 4.25h10.5M6 4V2.5h4V4M4 4.5l.6 9h6.8l.6-9"/>'),
    "up": Markup('<path d="M8 13V3.25M4 7.25l4-4 4 4"/>'),
    "whatsapp": Markup('<path d="M2.4 13.6 3.2 11A6 6 0 1 1 5.4 13z"/><path d="M6 5.6c0 2.4 2 4.4 4.4 4.4"/>'),
}
