"""Settings: environment variables, read once, typed and frozen.

A service composes its own class from these mixins (``class RouterSettings(KafkaSettings, PostgresSettings, …)``)
and ``load``s it in its ``app.py``. Every variable is ``TRANSOM_`` and the field's name in capitals; with ``_FILE``
behind it, it names a file that holds the value. ``deploy/env.example`` lists them all with their meaning. Unknown
variables are ignored. A secret is a ``SecretStr``, so it prints as stars.
"""

from libs.common.settings.base import PREFIX, Settings, fault_of, load
from libs.common.settings.people import PortalSettings, PortalUrlSettings, ProxySettings, SignInSettings
from libs.common.settings.providers import (
    GraphSettings,
    GraphUrlSettings,
    MetaWebhookSettings,
    PublicUrlSettings,
    SmsAccountSettings,
    SmsSettings,
    TemplateSettings,
)
from libs.common.settings.servers import (
    ConsumerSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    PostgresSettings,
    RedisSettings,
    ServiceSettings,
    WorkerSettings,
)
from libs.common.settings.timing import BridgeSettings, ClosingSettings, ReconcileSettings, SendSettings, WindowSettings

__all__ = [
    "PREFIX",
    "BridgeSettings",
    "ClosingSettings",
    "ConsumerSettings",
    "GraphSettings",
    "GraphUrlSettings",
    "HttpSettings",
    "KafkaSettings",
    "LogSettings",
    "MetaWebhookSettings",
    "PortalSettings",
    "PortalUrlSettings",
    "PostgresSettings",
    "ProxySettings",
    "PublicUrlSettings",
    "ReconcileSettings",
    "RedisSettings",
    "SendSettings",
    "ServiceSettings",
    "Settings",
    "SignInSettings",
    "SmsAccountSettings",
    "SmsSettings",
    "TemplateSettings",
    "WindowSettings",
    "WorkerSettings",
    "fault_of",
    "load",
]
