# SPDX-License-Identifier: Apache-2.0
"""Relays that note what passes, and the session that puts their notes in an order of its own."""

import asyncio
import json
import os
import socket

LIMIT = 1 << 24
PATIENCE = 30


async def connect(path):
    """Connects, and waits where the server is behind: asyncio takes a full backlog for success."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(str(path))
    except OSError:
        stream.close()
        raise
    return await asyncio.open_unix_connection(sock=stream, limit=LIMIT)


class Relay:
    """Passes each message on between the clients of `path` and the server at `server`."""

    def __init__(self, session, path, server, end):
        self.session, self.path, self.server, self.end = session, path, server, end
        self.names = []
        self.listener = None
        self.tasks = set()

    async def start(self):
        mask = os.umask(0o177)
        self.listener = await asyncio.start_unix_server(self.accept, self.path, limit=LIMIT)
        os.umask(mask)

    async def stop(self):
        self.listener.close()
        self.path.unlink(missing_ok=True)
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self, reader, writer):
        # The hub's own connection is the only one that nobody announces.
        name = self.names.pop(0) if self.names else "helper"
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            behind = await connect(self.server)
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.ensure_future(self.pass_on(name, "in", reader, behind[1])),
            asyncio.ensure_future(self.pass_on(name, "out", behind[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ways, timeout=0.5)
        finally:
            for way in ways:
                way.cancel()
            writer.close()
            behind[1].close()
            self.tasks.discard(task)

    async def pass_on(self, name, way, reader, writer):
        while True:
            try:
                message = await reader.readuntil(self.end)
            except asyncio.IncompleteReadError as rest:
                if rest.partial:
                    self.session.heard(name, way, rest.partial)
                    writer.write(rest.partial)
                if writer.can_write_eof():
                    writer.write_eof()
                return
            except ConnectionError:
                return
            self.session.heard(name, way, message[:-1])
            writer.write(message)
            try:
                await writer.drain()
            except ConnectionError:
                return


def shown(message):
    """Returns `message` as a member of a line: parsed where nothing is lost by that."""
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return {"bytes": message.decode("latin-1")}
    try:
        parsed = json.loads(text)
    except ValueError:
        return {"text": text}
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (True, False):
            if json.dumps(parsed, separators=separators, ensure_ascii=ascii_only) == text:
                return {"json": bare(parsed)}
    return {"text": text}


def bare(message):
    """Returns `message` without the comments of an interface's description: they are no interface."""
    try:
        description = message["parameters"]["description"]
    except (KeyError, TypeError):
        return message
    if not isinstance(description, str):
        return message
    lines = (line.split("#")[0].rstrip() for line in description.splitlines())
    message["parameters"]["description"] = "\n".join(line for line in lines if line)
    return message


class Session:
    """What was said, step by step.

    Each step ends with a barrier: a harmless event, reported like all others and heard by every
    subscriber. What comes before it on a connection belongs to the step, and nothing else does.
    """

    #: In which order the connections of one step stand; what one does not wait for is last.
    ORDER = ("helper", "shield", "reader")

    def __init__(self, servers, shield_log):
        self.servers, self.shield_log = servers, shield_log
        self.relays = {}
        self.done = []
        self.notes = []
        self.connections = {}
        self.subscribers = []
        self.barriers = 0
        self.passed = set()
        self.news = asyncio.Event()
        self.shield_runs = 0
        #: How many events each real client delivered, by the kind.
        self.took = []
        self.client = None
        self.released = set()

    def heard(self, name, way, message):
        if b'"barrier-' in message:
            barrier = message.split(b'"barrier-')[1].split(b'"')[0].decode()
            if way == "out":
                self.passed.add((name, barrier))
                self.news.set()
            return
        self.note(name, {way: name, **shown(message)})

    def note(self, name, line):
        self.notes.append((name, line))
        self.news.set()

    async def until(self, what, condition):
        try:
            await asyncio.wait_for(self.until_quietly(condition), PATIENCE)
        except TimeoutError:
            raise RuntimeError(f"in vain: {what}") from None

    async def step(self, name):
        """Starts a step of this name."""
        self.done.append({"step": name})

    async def open(self, name, relay):
        self.relays[relay].names.append(name)
        stream = await connect(self.relays[relay].path)
        self.connections[name] = (*stream, self.relays[relay].end)
        self.note(name, {"open": name, "at": relay})

    async def close(self, name):
        _, writer, _ = self.connections.pop(name)
        writer.close()
        self.note(name, {"close": name})

    async def say(self, name, message):
        """Sends a message: bytes as they are, anything else as JSON."""
        if not isinstance(message, bytes):
            message = json.dumps(message, separators=(",", ":")).encode()
        _, writer, end = self.connections[name]
        writer.write(message + end)
        await writer.drain()

    async def passed_on(self, name):
        """Waits until the hub has taken what was said: it takes a later call of another client."""
        await self.until("passing on", lambda: any("in" in line for of, line in self.notes if of == name))
        reader, writer = await connect(self.relays["hub"].server)
        writer.write(b'{"method":"org.varlink.service.GetInfo"}\0')
        await asyncio.wait_for(reader.readuntil(b"\0"), PATIENCE)
        writer.close()

    async def answer(self, name):
        """Waits for one message."""
        reader, _, end = self.connections[name]
        return await asyncio.wait_for(reader.readuntil(end), PATIENCE)

    async def report(self, **line):
        await self.say("reader", line)

    async def ask(self, name, method, parameters=None, **more):
        call = {"method": method, **more}
        if parameters is not None:
            call["parameters"] = parameters
        await self.say(name, call)
        return await self.answer(name)

    async def subscribe(self, name, message):
        """Subscribes by a connection of its own, to the end of the session."""
        await self.open(name, "hub")
        await self.say(name, message)
        self.subscribers.append(name)

    async def settle(self):
        """Ends a step: waits until all that it caused has come."""
        self.barriers += 1
        barrier = f"{self.barriers}"
        heard = lambda: all((name, barrier) in self.passed for name in self.subscribers)
        # A subscription may reach the hub after this event: say it until it is heard.
        for _ in range(PATIENCE * 2):
            await self.report(type="shield_up", container=f"barrier-{barrier}")
            try:
                await asyncio.wait_for(self.until_quietly(heard), 0.5)
                break
            except TimeoutError:
                continue
        else:
            raise RuntimeError(f"barrier {barrier} was not heard by all: {self.passed}")
        if self.client is not None:
            delivered = lambda: f"barrier-{barrier}" in self.released
            await self.until("the client delivers", delivered)
        self.flush(True)

    async def until_quietly(self, condition):
        while not condition():
            self.news.clear()
            await self.news.wait()

    def flush(self, barrier):
        for line in self.runs():
            self.notes.append(("shield", {"shield": line}))
        self.notes.sort(key=self.place)
        self.done.extend(line for _, line in self.notes)
        self.notes = []
        if self.client is not None and self.took:
            self.done.append({"took": self.took})
            self.took = []
        if barrier:
            self.done.append({"barrier": list(self.subscribers)})

    def runs(self):
        lines = self.shield_log.read_text().splitlines() if self.shield_log.exists() else []
        new, self.shield_runs = lines[self.shield_runs :], len(lines)
        return [line.split(" ") for line in new]

    def place(self, note):
        """Returns where a note stands in its step: after what it is an answer to."""
        name, line = note
        if name in self.subscribers:
            # The hub tells its subscribers in no order of its own.
            return (9, self.subscribers.index(name))
        if name in self.ORDER:
            return (self.ORDER.index(name) + 1, 0)
        return (0, 1 if "out" in line else 0)

    async def attend(self, client_class):
        """Starts the release's own client, whose two connections are `client events` and `client calls`."""
        self.relays["hub"].names += ["client events", "client calls"]
        self.client = client_class(socket_path=self.relays["hub"].path)
        self.subscribers.append("client events")
        self.note("client calls", {"open": "client events", "at": "hub"})
        self.note("client calls", {"open": "client calls", "at": "hub"})

        async def take(event):
            if event.container.startswith("barrier-"):
                self.released.add(event.container)
            else:
                self.took.append(event.type)
            self.news.set()

        await self.client.start(take)

    async def leave(self):
        """Ends the client."""
        await self.client.stop()
        self.subscribers.remove("client events")
        self.client = None
        self.note("client calls", {"close": "client events"})
        self.note("client calls", {"close": "client calls"})

    async def helper(self, on):
        """Ends the verdict helper, or starts it again."""
        if on:
            await self.servers.start("helper")
            await self.relays["between"].start()
        else:
            await self.relays["between"].stop()
            await self.servers.stop("helper")
        self.note("", {"start" if on else "stop": "helper"})

    async def end(self):
        """Ends the hub, and with it the subscriptions."""
        await self.step("the hub is told to end")
        last = list(self.subscribers)
        self.note("", {"stop": "hub"})
        await self.servers.stop("hub")
        for name in last:
            reader, _, _ = self.connections[name]
            await asyncio.wait_for(reader.read(), PATIENCE)
        # What is left are barriers.
        for name in last:
            self.note(name, {"closed": name})
        self.flush(False)
        await self.servers.stop("helper")
        for relay in self.relays.values():
            await relay.stop()

    def recording(self):
        return [json.dumps(line) for line in self.done]
