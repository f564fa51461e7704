"""``transom doctor``: what is wrong with configuration, servers and providers, and how to mend it.

Law 1: it only reads. It sends no message, writes no row, creates no topic and changes no setting. Rights are asked for
       where a server can tell them, and never tried.
Law 2: it ends within 30 seconds, whatever hangs: a server that accepts and never answers, a name that does not resolve,
       a TLS handshake, a thread (``running``).
Law 3: no secret leaves it (``secrecy``). Texts of libraries' exceptions are not printed, only what kind they are.
Law 4: what could not be looked at is a finding of its own and never counts as good.

``catalogue`` names every finding with its severity, ``checks`` every check: a new one is added in these two places.
"""
