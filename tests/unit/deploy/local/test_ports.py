"""Ports of servers and services, chosen while other processes choose theirs."""

import socket
import subprocess
import sys

import pytest

from deploy.local.servers.ports import LOOPBACK, free_port, is_free

linux = pytest.mark.skipif(sys.platform != "linux", reason="a port can be held beside its server on Linux alone")


@linux
def test_no_other_process_chooses_a_chosen_port_while_its_server_is_down() -> None:
    port = free_port()
    choose = f"from deploy.local.servers import ports; ports._LOWEST = {port}; ports._HIGHEST = {port + 1}"
    code = f"{choose}; ports.free_port()"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"no free port between {port} and {port + 1}" in refused.stderr


def test_a_server_comes_back_on_its_port_right_after_it_hung_up() -> None:
    port = free_port()
    for _ in range(3):
        assert is_free(port)
        with socket.create_server((LOOPBACK, port)) as server, socket.create_connection((LOOPBACK, port)):
            server.accept()[0].close()  # who hangs up first leaves the connection in TIME_WAIT
            assert not is_free(port)
