"""The engine's side of the test: commands with deadlines, waiting for facts, and the compose project under test."""

import json
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_S = float(os.environ.get("E2E_DEADLINE_S", "60"))
PULL_DEADLINE_S = 600
POLL_S = 0.1
NODES = [f"node{i}" for i in range(5)]


class Failed(Exception):
    """A fact that did not come true within its deadline: what follows would only fail because of it."""


class Results:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, what, good, detail=""):
        if good:
            self.passed += 1
            print(f"  ok    {what}", flush=True)
        else:
            self.failed += 1
            print(f"  FAIL  {what}{': ' if detail else ''}{detail}", flush=True)


results = Results()
started_at = time.monotonic()


def step(text):
    print(f"[{time.monotonic() - started_at:6.1f} s] {text}", flush=True)


def wait_for(what, fact, deadline_s=DEADLINE_S, poll_s=POLL_S):
    """Waits until fact() is true, and returns what it returned."""
    end = time.monotonic() + deadline_s
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(poll_s)


def run(*command, check=True, timeout=DEADLINE_S, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_ports(count):
    """Ports that nothing on this machine listens on; all held at once, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class System:
    """The compose project under a name, an image and ports of its own."""

    def __init__(self, project, image):
        self.project = project
        self.own_image = image is None
        self.image = image or f"{project}:test"
        ports = free_ports(11)
        self.chat_ports, self.http_ports, self.jaeger_port = ports[:5], ports[5:10], ports[10]
        # Settings of whoever starts this must not change what is tested; which base images to use is theirs to say.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CLIQUE_", "COMPOSE_", "OTEL_"))}
        self.env.update({"CLIQUE_IMAGE": self.image, "JAEGER_PORT": str(self.jaeger_port)})
        for i in range(5):
            self.env[f"CLIQUE_CHAT_PORT_{i}"] = str(self.chat_ports[i])
            self.env[f"CLIQUE_HTTP_PORT_{i}"] = str(self.http_ports[i])

    def command(self, *arguments):
        return ["docker", "compose", "--env-file", "/dev/null", "-f", str(ROOT / "docker-compose.yml"),
                "-p", self.project, *arguments]

    def compose(self, *arguments, **more):
        return run(*self.command(*arguments), env=self.env, **more)

    def container(self, node):
        return f"{self.project}-node{node}-1"

    def state(self, node):
        return json.loads(run("docker", "inspect", "-f", "{{json .State}}", self.container(node)).stdout)

    def wait_healthy(self, node):
        def healthy():
            state = self.state(node)
            return state["Running"] and state.get("Health", {}).get("Status") == "healthy"
        wait_for(f"node {node} is healthy", healthy)

    def nodes_seen_from(self, node):
        """How many nodes a newcomer is told are up, as in '* welcome, x: you are on node 0; 5 of 5 nodes, …'."""
        try:
            with socket.create_connection(("127.0.0.1", self.chat_ports[node]), timeout=5) as probe:
                probe.sendall(f"probe{time.monotonic_ns()}\n".encode())
                line = probe.makefile(encoding="utf-8").readline()
                probe.sendall(b"/quit\n")
        except OSError:
            return None
        found = re.search(r"(\d+) of \d+ nodes", line)
        return int(found[1]) if found else None

    def wait_sees(self, node, count):
        what = f"{count} of 5 nodes as seen from node {node}"
        wait_for(what, lambda: self.nodes_seen_from(node) == count, poll_s=0.5)

    def jaeger_available(self):
        services = json.loads(self.compose("config", "--format", "json").stdout)["services"]
        image = services["jaeger"]["image"]
        if run("docker", "image", "inspect", image, check=False).returncode == 0:
            return True
        return run("docker", "pull", "-q", image, check=False, timeout=PULL_DEADLINE_S).returncode == 0

    def leftovers(self):
        label = f"label=com.docker.compose.project={self.project}"
        found = run("docker", "ps", "-aq", "--filter", label).stdout.split()
        found += run("docker", "ps", "-aq", "--filter", f"name=^{self.project}-").stdout.split()
        found += run("docker", "volume", "ls", "-q", "--filter", label).stdout.split()
        found += run("docker", "network", "ls", "-q", "--filter", label).stdout.split()
        return found

    def remove(self):
        """Everything of this project; each step also when one before it has failed."""
        for each in (self._remove_clients, self._take_down, self._remove_image):
            try:
                each()
            except (Failed, subprocess.TimeoutExpired, OSError) as failure:
                print(f"  while removing: {failure}", flush=True)

    def _remove_clients(self):
        clients = run("docker", "ps", "-aq", "--filter", f"name=^{self.project}-", check=False).stdout.split()
        if clients:
            run("docker", "rm", "-f", "-v", *clients, check=False)

    def _take_down(self):
        self.compose("--profile", "client", "down", "-v", "--remove-orphans", "-t", "1", check=False, timeout=120)

    def _remove_image(self):
        if self.own_image:
            run("docker", "rmi", "-f", self.image, check=False)
