"""Claimed sending, shared by the senders: rows in ``sends``, claims with leases, evidence for what got lost, and telling.

``outcomes`` and ``rows`` say what there is, ``transitions`` what follows from what (pure); ``claiming``, ``recording``, ``sweeping`` and
``telling`` do it, ``line`` runs them together. What one provider is like stands behind ``adapter.ProviderAdapter``.
"""
