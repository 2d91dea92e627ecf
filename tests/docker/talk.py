"""Conversations that go on while things fail, and the judgement of what arrived."""

import threading
import time

from engine import Failed, results, wait_for

# One message per conversation in this time: quick enough to be in flight at every fault, slow enough for a busy machine.
PACE_S = 0.05
# What was said this long before a node was killed or cut off is acknowledged, and with the other nodes.
IN_FLIGHT_S = 1.0
# So many more messages must get through before the next step of a fault, so that it lies between them.
SOME = 20


class Excuse:
    """Messages said within a time need not arrive, if their sender was told nothing better of them than `states`."""

    def __init__(self, why, since, until, states):
        self.why, self.since, self.until, self.states = why, since, until, states

    def covers(self, said_at, states):
        return self.since <= said_at <= self.until and bool(states) and states <= self.states


class Conversation:
    """What one person says to another (or to everyone), numbered."""

    def __init__(self, number, sender, to, listeners):
        self.sender, self.to, self.listeners = sender, to, listeners
        self.mark = f"{number}:{sender.name}>{to} "
        self.said_at = []
        self.excuses = []
        self.late = []

    @property
    def said(self):
        return len(self.said_at)

    def say_next(self):
        self.said_at.append(time.monotonic())
        self.sender.say(self.to, f"{self.mark}{self.said}")

    def may_be_late(self, gone_at, until):
        """The sender's node was gone from then on, perhaps with something that no other had: that comes once it is back."""
        self.late.append((gone_at - IN_FLIGHT_S, until))

    def comes_in_turn(self, number):
        return not any(since <= self.said_at[number - 1] <= until for since, until in self.late)

    def numbers_heard(self, listener):
        return list(listener.numbers.get((self.sender.name, self.mark), ()))

    def excuse_of(self, number):
        states = self.sender.states(f"{self.mark}{number}")
        said_at = self.said_at[number - 1]
        return next((each.why for each in self.excuses if each.covers(said_at, states)), None)

    def missing(self, listener):
        """Numbers that did not arrive, and why they did not have to (None if they had to)."""
        absent = set(range(1, self.said + 1)) - set(self.numbers_heard(listener))
        return {number: self.excuse_of(number) for number in sorted(absent)}

    def is_complete(self):
        return all(all(self.missing(each).values()) for each in self.listeners)

    def verdict(self, listener):
        """What is wrong with what one listener heard, and what was missing with an excuse."""
        numbers = self.numbers_heard(listener)
        missing = self.missing(listener)
        lost = [number for number, excuse in missing.items() if not excuse]
        doubled = sorted({number for number in numbers if numbers.count(number) > 1})
        in_turn = [number for number in numbers if self.comes_in_turn(number)]
        disorder = next((after for before, after in zip(in_turn, in_turn[1:]) if after < before), None)
        denied = [number for number in numbers
                  if self.sender.states(f"{self.mark}{number}") & {"refused", "undelivered", "not_sent"}]
        told = [f"{number} {sorted(self.sender.states(f'{self.mark}{number}'))}" for number in lost[:10]]
        wrong = [f"{len(lost)} lost: {', '.join(told)}" if lost else "",
                 f"{len(doubled)} doubled: {doubled[:10]}" if doubled else "",
                 f"out of order at {disorder}" if disorder else "",
                 f"{len(denied)} arrived although their sender was told otherwise: {denied[:10]}" if denied else ""]
        excused = [excuse for excuse in missing.values() if excuse]
        return ", ".join(each for each in wrong if each), {why: excused.count(why) for why in sorted(set(excused))}


def judge(conversations):
    for each in conversations:
        for listener in each.listeners:
            wrong, excused = each.verdict(listener)
            whose = f"{each.sender.name} to {each.to}" + (f" ({listener.name})" if each.to == "*" else "")
            but = "".join(f", but for {count} {why}" for why, count in excused.items())
            results.check(f"{whose}: {each.said} messages, each once and in order{but}", not wrong, wrong)


class Traffic:
    """Keeps conversations going from a thread of its own until it is ended."""

    def __init__(self, conversations):
        self.conversations = conversations
        self.ending = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def _talk(self):
        try:
            while not self.ending.wait(PACE_S):
                for each in self.conversations:
                    each.say_next()
        except (OSError, ValueError) as error:
            self.error = error

    def some_more(self, conversations):
        """So many messages that are said from now on get through in each of these conversations."""
        goals = [(each, each.said) for each in conversations]
        for each, said in goals:
            def through(each=each, said=said):
                if self.error:
                    raise Failed(f"a sender could not send: {self.error!r}")
                return all(sum(number > said for number in each.numbers_heard(listener)) >= SOME
                           for listener in each.listeners)
            wait_for(f"{SOME} more of {each.mark}after {said}", through)

    def stop(self):
        """Nobody starts another message."""
        self.ending.set()
        self.thread.join()

    def end(self):
        """Stops talking, waits until all was heard, and judges every conversation."""
        self.stop()
        if self.error:
            raise Failed(f"a sender could not send: {self.error!r}")
        # A last word each: what could still come a second time comes before it or is judged again at the end.
        for each in self.conversations:
            each.say_next()
        for each in self.conversations:
            try:
                wait_for(f"all of {each.mark}", each.is_complete)
            except Failed:
                pass  # the verdict says what is missing
        judge(self.conversations)
