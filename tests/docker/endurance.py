"""Ten people who never stop talking, while each node in turn is killed and another is cut off."""

import time

from engine import results, run, step, wait_for
from talk import Excuse, Traffic

PEOPLE = 10
NODES = 5
CUT_NODE = 3
CUT_S = 10
# What was not acknowledged need not arrive: its sender was told that its fate is unknown, or that it was refused.
NOT_ACKNOWLEDGED = {"unknown", "refused"}


def endurance(scene):
    step(f"{PEOPLE} people talk all the time; each node is killed and started again in turn, and one is cut off")
    people = [scene.client(f"walker{index}", index % NODES) for index in range(PEOPLE)]
    chats = [scene.conversation(each, people[(index + 3) % PEOPLE]) for index, each in enumerate(people)]
    everyone = scene.conversation(people[0], "*")
    began = time.monotonic()
    traffic = Traffic([*chats, everyone])
    traffic.some_more(chats)
    for node in range(NODES):
        kill_and_restart(scene.system, node, traffic.conversations)
        traffic.some_more(chats)
    cut_off(scene.system, traffic, chats)
    traffic.stop()
    excuse = Excuse("that were not acknowledged", began, time.monotonic(), NOT_ACKNOWLEDGED)
    for each in traffic.conversations:
        each.excuses.append(excuse)
    traffic.end()
    said = sum(each.said for each in traffic.conversations)
    results.check(f"{said} messages said in {time.monotonic() - began:.0f} s of faults", said > 0)
    histories_are_equal(scene.system)
    for each in people:
        scene.leaves(each)


def kill_and_restart(system, node, conversations):
    killed_at = time.monotonic()
    run("docker", "kill", "-s", "KILL", system.container(node))
    wait_for(f"node {node} is down", lambda: not system.state(node)["Running"])
    down_at = time.monotonic()
    system.wait_sees((node + 1) % NODES, NODES - 1)
    run("docker", "start", system.container(node))
    system.wait_sees(node, NODES)
    some_may_be_late(conversations, killed_at, down_at)
    step(f"node {node} was killed and is back")


def cut_off(system, traffic, chats):
    network = f"{system.project}_default"
    gone_at = time.monotonic()
    run("docker", "network", "disconnect", network, system.container(CUT_NODE))
    cut_at = time.monotonic()
    system.wait_sees(0, NODES - 1)
    traffic.some_more(chats)
    wait_for(f"{CUT_S} s of it", lambda: time.monotonic() >= cut_at + CUT_S)
    # Compose had given the container its service's name on the network; whoever connects it again must say so.
    run("docker", "network", "connect", "--alias", f"node{CUT_NODE}", network, system.container(CUT_NODE))
    system.wait_sees(0, NODES)
    system.wait_sees(CUT_NODE, NODES)
    some_may_be_late(traffic.conversations, gone_at, cut_at)
    step(f"node {CUT_NODE} was cut off for {time.monotonic() - cut_at:.0f} s and is back")
    traffic.some_more(chats)


def some_may_be_late(conversations, gone_at, until):
    """What those said last who lost their node."""
    for each in conversations:
        lost_at = each.sender.last("lost")
        if lost_at is not None and lost_at >= gone_at:
            each.may_be_late(gone_at, until)


def histories_are_equal(system):
    def equal():
        return run("docker", "exec", system.container(0), "/clique", "status", check=False).returncode == 0
    wait_for("`clique status` in a container says that all is well and all histories are equal", equal)
    results.check("`clique status`: every node has the same history", True)
