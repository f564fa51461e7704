"""Every check of ``transom doctor``. A new one is added here, and its findings in ``catalogue``."""

from deploy.cli.doctor.addresses import look_at_addresses
from deploy.cli.doctor.graph import look_at_graph
from deploy.cli.doctor.kafka import look_at_kafka
from deploy.cli.doctor.postgres import look_at_postgres
from deploy.cli.doctor.redis import look_at_redis
from deploy.cli.doctor.running import Check
from deploy.cli.doctor.sign_in import look_at_sign_in
from deploy.cli.doctor.site import Site
from deploy.cli.doctor.sms import look_at_sms

CHECKS: tuple[Check[Site], ...] = (
    Check("kafka", look_at_kafka),
    Check("postgres", look_at_postgres),
    Check("redis", look_at_redis),
    Check("graph", look_at_graph),
    Check("sms", look_at_sms),
    Check("addresses", look_at_addresses),
    Check("sign-in", look_at_sign_in),
)
