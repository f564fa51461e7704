"""Claimed sending, shared by the senders: rows, claims with leases, evidence for lost answers, publishing.

Pure: ``outcomes`` and ``rows`` (the values), ``transitions`` (how a row moves), ``breaker`` (whether a provider is
silent), ``coverage`` (when silence proves something), ``resend_rounds`` (how many second calls may go), ``turns``. With
I/O: ``claiming``, ``recording``, ``sweeping``, ``resending``, ``publishing``, run together by ``engine``. A provider is
known through ``adapter.ProviderAdapter``.
"""
