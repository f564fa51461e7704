"""Claimed sending, shared by the senders. A provider is known through ``adapter.ProviderAdapter``.

| step | modules (P: pure) |
| --- | --- |
| values | ``rows`` P, ``outcomes`` P |
| admit and move a row | ``admission`` P, ``transitions`` P |
| claim | ``dispatching``, ``turns`` P, ``claiming``, ``claim_queries``, ``conversation_order``, ``quarantine`` |
| call | ``calling``, ``adapter``, ``breaker`` P, ``pause_queries``, ``country_pauses``, ``unanswered_calls`` |
| record | ``recording``, ``persisting``, ``queries``, ``refusals`` |
| publish | ``publishing`` |
| rows that no process finishes, and what waits | ``sweeping``, ``waiting_queries`` |
| evidence of lost answers | ``coverage`` P, ``coverage_queries``, ``resending``, ``resend_rounds`` P |
| statuses | ``statuses``, ``status_effects``, ``refused_windows``, ``status_lines`` |
| money | ``pricing``, ``whatsapp_prices`` P, ``whatsapp_charges``, ``sms_charges``, ``sms_caps``, ``spent`` |
| merged threads | ``merge_slices`` |

``engine`` runs dispatcher, recorder, publisher and sweeper together.
"""
