import ssl

from libs.common.kafka.connection import KafkaConnection


def test_the_prefix_stands_before_every_name() -> None:
    assert KafkaConnection("b:9092", topic_prefix="eu.").name("webhooks.v1") == "eu.webhooks.v1"


def test_plain_text_needs_neither_tls_nor_credentials() -> None:
    assert KafkaConnection("a:9092, b:9092", client_id="router").client_options() == {
        "bootstrap_servers": ["a:9092", "b:9092"],
        "client_id": "router",
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_over_tls_carries_credentials_and_verifies_the_broker() -> None:
    options = KafkaConnection(
        "b:9093", security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password="p"
    ).client_options()
    context = options["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert (options["sasl_mechanism"], options["sasl_plain_username"], options["sasl_plain_password"]) == (
        "SCRAM-SHA-512",
        "u",
        "p",
    )


def test_the_password_does_not_show() -> None:
    assert "hunter2" not in repr(KafkaConnection("b:9092", sasl_password="hunter2"))


async def test_a_broker_whose_name_does_not_resolve_is_said_in_words() -> None:
    error = await KafkaConnection("no.such.host.invalid:9092").error("reached", OSError())
    assert str(error).startswith("Kafka at no.such.host.invalid:9092 cannot be reached: its name does not resolve: ")
