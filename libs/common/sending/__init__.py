"""Claimed sending, shared by the senders: rows, claims with leases, evidence for lost answers, publishing.

Pure: ``outcomes``, ``rows``, ``pauses`` (the values), ``transitions`` (how a row moves), ``breaker`` (whether a
provider is silent), ``coverage`` (when silence proves something), ``resend_rounds``, ``turns``. With I/O: ``claiming``,
``recording``, ``sweeping``, ``publishing``, run together by ``engine``. A provider is known through
``adapter.ProviderAdapter``.
"""
