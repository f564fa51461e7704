from tests.support.sandbox import hook_inbox, providers, sandbox, sandbox_url

__all__ = ["hook_inbox", "providers", "sandbox", "sandbox_url"]
