"""The providers on one machine: Meta's Graph API and Twilio's Messages API, simulated by their own rules.

Law 1: an honest opponent. Nothing here imports from ``libs`` or ``services``; signatures, windows, alphabets and
       error tables are written anew from the providers' documentation, so that a shared mistake cannot hide.
Law 2: what was accepted was sent, whatever the caller was told. Faults change answers, never the ledger.
Law 3: everything is bounded. Ledgers keep the newest records, outstanding webhooks have a ceiling and a counter.
Law 4: at a setting of 0 or 1 every chance is a certainty; between them it is drawn from a seeded generator.
"""
