"""The providers on one machine: Meta's Graph API, Twilio's and Vonage's APIs for SMS, simulated by their own rules.

Law 1: an independent implementation. Nothing here imports from ``libs`` or ``services``. Signatures, windows, alphabets
       and error tables are written from the providers' documentation, so that no mistake is shared.
Law 2: what was accepted was sent, whatever the caller got as an answer. Faults change answers, never the ledger.
Law 3: everything is bounded. Ledgers keep the newest records; outstanding webhooks have a limit and a counter.
Law 4: a chance of 0 or 1 is deterministic; any other is drawn from a seeded generator.
"""
