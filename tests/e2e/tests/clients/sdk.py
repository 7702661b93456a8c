"""What the Docker SDK for Python is used for, against the engine at DOCKER_HOST."""

import io
import tarfile
import time

import docker

client = docker.from_env()
assert client.ping()
assert client.version()["Os"] == "linux"
assert client.info()["Images"] == 1

# Run, and what comes of it.
assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
try:
    client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 5"], remove=True)
    raise AssertionError("a failing container raises")
except docker.errors.ContainerError as error:
    assert error.exit_status == 5 and error.stderr == b"no\n", error
try:
    client.containers.run("busybox", "no-such-program")
    raise AssertionError("a program that is not there raises")
except docker.errors.APIError as error:
    assert error.status_code in (400, 404) and "no-such-program" in str(error), error
client.containers.prune()

# A service of some kind: networks, volumes, limits, health.
back = client.networks.create("back", driver="bridge", labels={"of": "test"},
    ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.77.0.0/24")]))
volume = client.volumes.create("kept", labels={"of": "test"})
server = client.containers.run(
    "busybox", ["sh", "-c", "echo ready; echo page > /data/index.html; exec httpd -f -p 80 -h /data"],
    name="server", hostname="host", detach=True, init=True, network="back", ports={"80/tcp": ("127.0.0.1", 8081)},
    volumes={"kept": {"bind": "/data", "mode": "rw"}}, environment={"A": "b"}, labels={"of": "test"},
    mem_limit="64m", nano_cpus=500_000_000, pids_limit=50, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    healthcheck={"test": ["CMD", "true"], "interval": 500_000_000}, cap_drop=["ALL"], cap_add=["NET_BIND_SERVICE"],
    tmpfs={"/scratch": "size=1m"}, ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)])
assert next(server.logs(stream=True, follow=True)) == b"ready\n"
assert server.logs(timestamps=True).split(b"Z ")[1] == b"ready\n"
code, (out, err) = server.exec_run(["sh", "-c", "echo out; echo err >&2; ulimit -n; exit 4"], demux=True)
assert (code, out, err) == (4, b"out\n100\n", b"err\n"), (code, out, err)
assert client.containers.run("busybox", "wget -q -O - http://server/", network="back", remove=True) == b"page\n"
deadline = time.monotonic() + 30
while server.attrs["State"].get("Health", {}).get("Status") != "healthy":
    assert time.monotonic() < deadline, server.attrs["State"]
    time.sleep(0.1)
    server.reload()
assert server.attrs["HostConfig"]["Memory"] == 64 << 20
assert server.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8081"}], server.ports
assert [c.name for c in client.containers.list(filters={"label": "of=test", "health": "healthy"})] == ["server"]
assert any("httpd" in " ".join(row) for row in server.top()["Processes"])
assert server.stats(stream=False)["memory_stats"]["usage"] > 0
assert next(server.stats(decode=True))["name"] == "/server"

# Files both ways.
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w") as archive:
    entry = tarfile.TarInfo("put.txt")
    entry.size = 4
    archive.addfile(entry, io.BytesIO(b"text"))
assert server.put_archive("/tmp", buffer.getvalue())
stream, about = server.get_archive("/tmp/put.txt")
assert about["size"] == 4
with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
    assert archive.extractfile("put.txt").read() == b"text"
assert {"Kind": 1, "Path": "/tmp/put.txt"} in server.diff()

# Streams held open.
terminal = client.containers.create("busybox", "cat", stdin_open=True, tty=True)
held = terminal.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
terminal.start()
terminal.resize(20, 100)
held._sock.sendall(b"typed\n")
assert held._sock.recv(100).startswith(b"typed")
held.close()
terminal.kill()
assert terminal.wait(timeout=30)["StatusCode"] == 137
terminal.remove()

# Networks at run time, limits at run time, a name that changes.
other = client.networks.create("other", internal=True)
other.connect(server, aliases=["alias"])
assert client.containers.run("busybox", "wget -q -O - http://alias/", network="other", remove=True) == b"page\n"
other.reload()
assert [c.name for c in other.containers] == ["server"]
other.disconnect(server)
server.update(mem_limit="32m", memswap_limit="32m")
server.rename("renamed")
server.pause()
server.reload()
assert (server.name, server.status) == ("renamed", "paused")
server.unpause()
server.restart(timeout=1)

# Images.
image = server.commit(repository="made", tag="v1", changes=["ENV C=d"])
assert image.tags == ["made:v1"] and "C=d" in image.attrs["Config"]["Env"]
assert image.tag("made", "v2")
saved = b"".join(client.images.get("made:v1").save(named=True))
client.images.remove("made:v1")
client.images.remove("made:v2")
assert client.images.load(saved)[0].tags == ["made:v1"]
assert client.images.get("made:v1").history()[0]["Size"] >= 0
try:
    client.images.get("no-such-image")
    raise AssertionError("an image that is not there raises")
except docker.errors.ImageNotFound:
    pass

# What happened, and the end.
since = int(time.time()) - 300
happened = client.events(since=since, until=int(time.time()) + 1, filters={"container": server.id}, decode=True)
actions = [event["Action"] for event in happened]
assert actions[:2] == ["create", "start"] and "rename" in actions and "pause" in actions, actions
server.stop(timeout=1)
assert server.wait()["StatusCode"] in (0, 137, 143)
try:
    volume.remove()
    raise AssertionError("a volume in use is not removed")
except docker.errors.APIError as error:
    assert error.status_code == 409, error
server.remove(v=True)
volume.remove()
back.remove()
assert client.networks.prune()["NetworksDeleted"] == ["other"]
client.images.remove("made:v1")
assert client.df()["Containers"] == []
print("all of it")
