"""What Testcontainers does for a test, against the engine at DOCKER_HOST."""

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SERVE = "sh -c 'mkdir /www; echo page > /www/index.html; echo serving; exec httpd -f -p 80 -h /www'"

with Network() as network:
    server = DockerContainer("busybox").with_command(SERVE).with_network(network).with_network_aliases("server")
    server = server.with_exposed_ports(80).with_env("A", "b").with_kwargs(init=True)
    with server.waiting_for(LogMessageWaitStrategy("serving")):
        assert server.exec(["sh", "-c", "echo $A"]).output == b"b\n"
        at = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(80)}/"
        assert urllib.request.urlopen(at, timeout=10).read() == b"page\n"
        out, err = server.get_logs()
        assert (out, err) == (b"serving\n", b""), (out, err)
        asking = DockerContainer("busybox").with_command("wget -q -O - http://server/").with_network(network)
        # No waiting for its output: what ends between Testcontainers' looks at the output and at the state counts as failed.
        with asking:
            ended = asking.get_wrapped_container().wait()["StatusCode"]
            assert (ended, *asking.get_logs()) == (0, b"page\n", b""), (ended, asking.get_logs())
print("all of it")
