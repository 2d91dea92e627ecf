"""People in the chat: with our client through pipes, with nc, and with our client at a terminal."""

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import termios
import threading
import time

from engine import DEADLINE_S, Failed, wait_for

# States of a message that make the client end with exit code 1.
FAILURES = {"refused", "undelivered", "unknown", "not_sent"}
# A numbered message of a conversation: its conversation's mark, and the number.
NUMBERED = re.compile(r"(\d+:\S+>\S+ )(\d+)")


class Person:
    """Someone in the chat, and what they were told."""

    def __init__(self, name):
        self.name = name
        self.heard = []  # (from, text), in the order of arrival
        self.numbers = {}  # (from, mark): numbers, in the order of arrival
        self.garbage = []
        self.gone = False

    def _hear(self, sender, text):
        self.heard.append((sender, text))
        found = NUMBERED.fullmatch(text)
        if found:
            self.numbers.setdefault((sender, found[1]), []).append(int(found[2]))

    def wait_to_hear(self, sender, text):
        wait_for(f"{self.name} hears {text!r} from {sender.name}", lambda: (sender.name, text) in self.heard)

    def states(self, _text):
        """What they were told became of a message of theirs; nothing, unless their dialect has receipts."""
        return set()

    def exit_code(self):
        return 0


class ClientPerson(Person):
    """Our own client with --format json, a container of its own."""

    def __init__(self, name, command, env=None):
        super().__init__(name)
        self.events = []
        self.errors = []
        self._references = {}  # text: the client's number for it
        self._states = {}  # reference: what it was told became of it
        self._connections = []  # (when, state)
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            try:
                event = json.loads(line)
                self._take(event)
                self.events.append(event)
            except (ValueError, KeyError, TypeError):
                self.garbage.append(line)
        self.gone = True

    def _take(self, event):
        kind = event["event"]
        if kind == "message":
            self._hear(event["from"], event["text"])
        elif kind == "sent":
            self._references[event["text"]] = event["reference"]
        elif kind == "receipt":
            self._states.setdefault(event["reference"], set()).add(event["state"])
        elif kind == "connection":
            self._connections.append((time.monotonic(), event["state"]))

    def say(self, to, text):
        self.process.stdin.write(f"{to} {text}\n")
        self.process.stdin.flush()

    def wait_connected(self):
        wait_for(f"{self.name}'s client is connected", lambda: self.gone or self.last("registered"))
        if self.gone:
            raise Failed(f"{self.name}'s client ended: {''.join(self.errors)[-1000:]}")

    def last(self, state):
        """When the connection was last in a state ('registered', 'lost'); None if it never was."""
        return next((when for when, which in reversed(self._connections) if which == state), None)

    def states(self, text):
        return self._states.get(self._references.get(text), set())

    def exit_code(self):
        return 1 if any(states & FAILURES for states in list(self._states.values())) else 0

    def last_told(self):
        return [json.dumps(event, ensure_ascii=False) for event in self.events[-20:]] + self.errors[-10:]

    def leave(self):
        try:
            self.process.stdin.close()
            self.process.wait(timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        return self.process.returncode


class RawPerson(Person):
    """Someone with nc: lines over TCP."""

    def __init__(self, name, port):
        super().__init__(name)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket.settimeout(None)
        self.socket.sendall(f"{name}\n".encode())
        self.lines = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            for line in self.socket.makefile(encoding="utf-8"):
                line = line.rstrip("\r\n")
                self.lines.append(line)
                # 'bob: hello', 'bob to *: hello', 'bob to * [12:03, from the split]: hello'; the node's own lines begin with
                # '* ', and what was said before somebody came with its time, '[2026-11-23 12:03] '.
                found = re.match(r"([^\s:*\[]+)(?: to \S+)?(?: \[[^\]]*\])?: (.*)$", line)
                if re.match(r"\[\d{4}-\d\d-\d\d ", line):
                    continue
                if found:
                    self._hear(found[1], found[2])
                elif not line.startswith("* "):
                    self.garbage.append(line)
        except OSError:
            pass
        self.gone = True

    def say(self, to, text):
        self.socket.sendall(f"{to} {text}\n".encode())

    def wait_connected(self):
        wait_for(f"{self.name} is welcomed", lambda: any(line.startswith("* welcome") for line in self.lines))

    def last_told(self):
        return self.lines[-20:]

    def leave(self):
        """Says /quit, and waits until the node closes."""
        try:
            self.socket.sendall(b"/quit\n")
            wait_for(f"{self.name}'s connection is closed", lambda: self.gone, deadline_s=10)
            return 0
        except (OSError, Failed):
            return 1
        finally:
            self.socket.close()


class TerminalPerson:
    """Somebody at a real (pseudo-)terminal, who sees a screen."""

    # Colours, cursor movements and carriage returns: what a terminal does not show as text.
    CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]|\r")

    def __init__(self, name, command, env):
        self.name = name
        self.seen = 0
        self.shown = b""
        self.terminal, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self.process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
                                        start_new_session=True)
        os.close(theirs)
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self):
        try:
            while piece := os.read(self.terminal, 65536):
                self.shown += piece
        except OSError:
            pass  # how a pseudo-terminal ends

    def screen(self):
        return self.CONTROL.sub("", self.shown.decode("utf-8", "replace"))

    def wait_to_see(self, text):
        """Waits for something that was not there when this was last called."""
        def shown():
            place = self.screen().find(text, self.seen)
            if place >= 0:
                self.seen = place + len(text)
            return place >= 0
        wait_for(f"{self.name} sees {text!r} on the screen", shown)

    def enter(self, line):
        os.write(self.terminal, f"{line}\r".encode())

    def press(self, key):
        os.write(self.terminal, key)

    def last_told(self):
        return self.screen().splitlines()[-20:]

    def wait_end(self):
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            os.close(self.terminal)
