# SPDX-License-Identifier: Apache-2.0
"""What is said in the session: first by the release's own client, then by frames of our own."""

from terok_clearance import ClearanceClient

BOX = "0123456789ab"
OTHER = "fedcba987654"
DOSSIER = {"project": "warp", "task": "t1", "name": "build"}


def question(number, domain="", dest="203.0.113.7", container=BOX, **more):
    """Returns the line by which a reader reports a blocked packet."""
    line = {
        "type": "pending",
        "container": container,
        "id": f"{container}:{number}",
        "dest": dest,
        "port": 443,
        "proto": 6,
        "domain": domain,
        "ts": "2026-01-01T00:00:00+00:00",
    }
    return {**line, **more}


async def by_client(s):
    """A session as the release's ClearanceClient holds it."""

    async def report(name, *lines):
        await s.step(name)
        for line in lines:
            await s.report(**line)
        await s.settle()

    async def verdict(name, number, dest, action, container=BOX, request=None):
        await s.step(name)
        await s.client.verdict(container, request or f"{container}:{number}", dest, action)
        await s.settle()

    await s.step("the client starts")
    await s.attend(ClearanceClient)
    await s.settle()
    for state in ("container_started", "shield_up"):
        await report(f"{state}", {"type": state, "container": BOX})
        await report(f"{state} with a dossier", {"type": state, "container": BOX, "dossier": DOSSIER})
    await report("a question with a name", question(1, "api.example.com", dossier=DOSSIER))
    await verdict("allow it", 1, "api.example.com", "allow")
    await verdict("allow it again", 1, "api.example.com", "allow")
    await report("a question without a name", question(2, dest="203.0.113.8", proto=17))
    await verdict("deny it", 2, "203.0.113.8", "deny")
    await report("a question about an address of IPv6", question(3, dest="2001:db8::7", port=80))
    await verdict("allow an address of IPv6", 3, "2001:db8::7", "allow")

    await report("a question to be answered wrongly", question(4, "api2.example.com"))
    await verdict("another container", 4, "api2.example.com", "allow", OTHER, f"{BOX}:4")
    await verdict("another destination", 4, "evil.example.com", "allow")
    await verdict("the address instead of the name", 4, "203.0.113.7", "allow")
    await verdict("another action", 4, "api2.example.com", "accept")
    await verdict("another action about nothing", 99, "api2.example.com", "")
    await verdict("an unknown question", 99, "api2.example.com", "allow")
    await verdict("and then rightly", 4, "api2.example.com", "deny")

    for number, dest, what in (
        (10, "refused.example.com", "the shield refuses"),
        (11, "silent.example.com", "the shield fails and says nothing"),
        (12, "long.example.com", "the shield says much"),
        (13, "lines.example.com", "the shield says two lines"),
        (14, "hostile.example.com", "the shield says hostile bytes"),
    ):
        await report(f"a question: {what}", question(number, dest))
        await verdict(what, number, dest, "allow")
        await verdict(f"{what}, once more", number, dest, "deny")
    await report("a question: the shield warns", question(15, "chatty.example.com"))
    await verdict("the shield warns", 15, "chatty.example.com", "allow")

    await report("a question to be repeated", question(20, "again.example.com"))
    await report("its repeat", question(21, "again.example.com"))
    await report("its second repeat", question(22, "again.example.com"))
    await verdict("an answer to the newest", 22, "again.example.com", "allow")
    await verdict("an answer to the oldest", 20, "again.example.com", "allow")

    for number, (kind, more) in enumerate(
        (
            ("shield_down", {}),
            ("shield_down", {"dossier": DOSSIER}),
            ("shield_disengaged", {}),
            ("shield_down_all", {}),
            ("container_exited", {"reason": "poststop"}),
            ("container_exited", {"reason": "eof", "dossier": DOSSIER}),
            ("container_exited", {}),
        ),
        30,
    ):
        name = f"{kind} {number - 29}"
        await report(f"questions before {name}", question(number, "gone.example.com"),
                     question(number, "stays.example.com", container=OTHER))
        await report(name, {"type": kind, "container": BOX, **more})
        await verdict(f"an answer after {name}", number, "gone.example.com", "allow")
        await verdict(f"an answer for the other after {name}", number, "stays.example.com", "allow", OTHER)

    await s.step("the client leaves")
    await s.leave()
    await s.settle()


CLEARANCE, VERDICT, SERVICE = "org.terok.Clearance1", "org.terok.ClearanceVerdict1", "org.varlink.service"


async def by_frames(s):
    """What the client never says, and what goes to the helper directly."""

    async def report(name, *lines):
        await s.step(name)
        for line in lines:
            await s.say("reader", line)
        await s.settle()

    await s.step("a subscription by hand")
    await s.subscribe("watch", {"method": f"{CLEARANCE}.Subscribe", "more": True})
    await s.settle()

    async def ask(name, method, parameters=None, **more):
        await s.step(name)
        await s.ask(peer, method, parameters, **more)
        await s.settle()

    for peer, relay, interface in (("calls", "hub", CLEARANCE), ("orders", "verdict", VERDICT)):
        await s.step(f"{peer} begin")
        await s.open(peer, relay)
        await s.settle()
        await ask(f"{peer}: GetInfo", f"{SERVICE}.GetInfo")
        await ask(f"{peer}: GetInfo with no parameters", f"{SERVICE}.GetInfo", {})
        await ask(f"{peer}: GetInfo with a parameter", f"{SERVICE}.GetInfo", {"extra": 1})
        describe = f"{SERVICE}.GetInterfaceDescription"
        await ask(f"{peer}: its description", describe, {"interface": interface})
        await ask(f"{peer}: the standard description", describe, {"interface": SERVICE})
        await ask(f"{peer}: no such description", describe, {"interface": "org.example.None"})
        await ask(f"{peer}: a description of nothing", describe, {})
        await ask(f"{peer}: a description of a number", describe, {"interface": 7})
        await ask(f"{peer}: no such standard method", f"{SERVICE}.Nothing")
        await ask(f"{peer}: no such method", f"{interface}.Nothing", {})
        await ask(f"{peer}: a method in small letters", f"{interface}.nothing", {})
        await ask(f"{peer}: no such interface", "org.example.None.Verdict", {})
        await ask(f"{peer}: GetInfo with more", f"{SERVICE}.GetInfo", more=True)
        await ask(f"{peer}: GetInfo with unknown members", f"{SERVICE}.GetInfo", extra=[1], x="y")

    peer = "calls"
    await ask("Subscribe without more", f"{CLEARANCE}.Subscribe")
    await ask("Subscribe without more, with more false", f"{CLEARANCE}.Subscribe", {}, more=False)
    await ask("Subscribe with a parameter", f"{CLEARANCE}.Subscribe", {"since": 1}, more=True)
    await report("a question for frames", question(40, "frames.example.com", dossier=DOSSIER))
    right = {
        "container": BOX,
        "request_id": f"{BOX}:40",
        "dest": "frames.example.com",
        "action": "allow",
    }
    wrongs = [("no parameters", None), ("empty parameters", {}), ("one too many", {**right, "scope": "wide"})]
    for key in right:
        wrongs.append((f"without {key}", {k: v for k, v in right.items() if k != key}))
        for what, value in (("null", None), ("a number", 7), ("a list", ["x"]), ("true", True)):
            wrongs.append((f"{key} is {what}", {**right, key: value}))
    for what, parameters in wrongs:
        await ask(f"Verdict: {what}", f"{CLEARANCE}.Verdict", parameters)
    # One way: a reply would come before that of the next call.
    await s.step("a call that wants no reply")
    await s.say("calls", {"method": f"{SERVICE}.GetInfo", "oneway": True})
    await s.ask("calls", f"{CLEARANCE}.Verdict", {**right, "action": "open"})
    await s.settle()

    await s.step("a late subscriber")
    await s.subscribe("late", {"method": f"{CLEARANCE}.Subscribe", "parameters": {}, "more": True})
    await s.settle()
    await ask("Verdict by hand", f"{CLEARANCE}.Verdict", right)
    await ask("Verdict with more", f"{CLEARANCE}.Verdict", right, more=True)

    await s.step("the helper goes")
    await s.close("orders")
    await s.helper(False)
    await s.say("reader", question(41, "frames.example.com"))
    await s.settle()
    right["request_id"] = f"{BOX}:41"
    await ask("Verdict without a helper", f"{CLEARANCE}.Verdict", right)
    await s.step("the helper is back")
    await s.helper(True)
    await s.ask("calls", f"{CLEARANCE}.Verdict", right)
    await s.settle()

    await s.step("orders begin again")
    await s.open("orders anew", "verdict")
    await s.settle()
    peer = "orders anew"
    order = {"container": BOX, "dest": "api.example.com", "action": "allow"}
    for what, parameters in (
        ("allow", order),
        ("deny", {**order, "action": "deny"}),
        ("an address", {**order, "dest": "203.0.113.7"}),
        ("an address of IPv6", {**order, "dest": "2001:db8::7"}),
        ("refused", {**order, "dest": "refused.example.com"}),
        ("silent", {**order, "dest": "silent.example.com"}),
        ("chatty", {**order, "dest": "chatty.example.com"}),
        ("long", {**order, "dest": "long.example.com"}),
        ("lines", {**order, "dest": "lines.example.com"}),
        ("hostile", {**order, "dest": "hostile.example.com"}),
        ("another action", {**order, "action": "up"}),
        ("no action", {**order, "action": ""}),
        ("an option for a container", {**order, "container": "--help"}),
        ("an option for a destination", {**order, "dest": "--all"}),
        ("a range of addresses", {**order, "dest": "203.0.113.0/24"}),
        ("everything", {**order, "dest": "0.0.0.0/0"}),
        ("one too many", {**order, "scope": "wide"}),
        ("nothing", {}),
        ("no parameters", None),
        ("without container", {"dest": "api.example.com", "action": "allow"}),
        ("without dest", {"container": BOX, "action": "allow"}),
        ("without action", {"container": BOX, "dest": "api.example.com"}),
        ("a number for a container", {**order, "container": 7}),
    ):
        await ask(f"Apply: {what}", f"{VERDICT}.Apply", parameters)

    for what, text in (
        ("no JSON", b"garbage"),
        ("a list", b"[1]"),
        ("nothing", b""),
        ("no UTF-8", b'{"method":"\xff"}'),
        ("no method", b'{"parameters":{}}'),
        ("a number for a method", b'{"method":7}'),
        ("a method without an interface", b'{"method":"GetInfo"}'),
        ("a list for parameters", b'{"method":"org.varlink.service.GetInfo","parameters":[]}'),
        ("null for parameters", b'{"method":"org.varlink.service.GetInfo","parameters":null}'),
        ("text for more", b'{"method":"org.varlink.service.GetInfo","more":"yes"}'),
    ):
        name = f"hostile: {what}"
        await s.step(f"a frame of {what}")
        await s.open(name, "hub")
        await s.say(name, text)
        # A frame in the same read would share its fate: let the hub take this one alone.
        await s.passed_on(name)
        await s.say(name, {"method": f"{SERVICE}.GetInterfaceDescription", "parameters": {"interface": "x"}})
        while b"InterfaceNotFound" not in await s.answer(name):
            pass
        await s.settle()
        await s.step(f"after a frame of {what}")
        await s.close(name)
        await s.settle()

    for number, (what, more) in enumerate(
        (
            ("without a dossier", {}),
            ("with an empty dossier", {"dossier": {}}),
            ("with a dossier of other things", {"dossier": {"n": 1, "t": "x"}}),
            ("with a list for a dossier", {"dossier": ["x"]}),
            ("with null for a dossier", {"dossier": None}),
            ("with null in the dossier", {"dossier": {"k": None}}),
            ("with a truth in the dossier", {"dossier": {"k": True}}),
            ("with a fraction in the dossier", {"dossier": {"k": 1.5}}),
            ("with an object in the dossier", {"dossier": {"k": {"a": "b"}}}),
            ("with a strange key in the dossier", {"dossier": {"k\u001b": "v"}}),
            ("with escapes", {"domain": "a\u001b[31mb.example.com"}),
            ("with other scripts", {"domain": "\u202ecaf\u00e9.example.com", "dossier": {"name": "caf\u00e9"}}),
            ("with a long name", {"domain": "x" * 300}),
            ("with a long word in the dossier", {"dossier": {"name": "y" * 300}}),
            ("with text for a port", {"port": "443"}),
            ("with a word for a port", {"port": "https"}),
            ("with a fraction for a port", {"port": 443.9}),
            ("with a truth for a port", {"port": True}),
            ("with null for a port", {"port": None}),
            ("with a port below zero", {"port": -5}),
            ("with a port too high", {"port": 65536}),
            ("with port 0 of ICMP", {"port": 0, "proto": 1}),
            ("with a protocol too high", {"proto": 256}),
            ("with null for a domain", {"domain": None}),
            ("with null for a container", {"container": None}),
            ("with an option for a container", {"container": "--help"}),
            ("with a number for an id", {"id": 7}),
            ("with blanks in its id", {"id": "a b"}),
            ("with an empty id", {"id": ""}),
            ("with an empty dest", {"dest": ""}),
            ("with a word for a dest", {"dest": "somewhere"}),
            ("with more members", {"extra": {"a": [1]}}),
        ),
        100,
    ):
        line = {**question(number, dest=f"192.0.2.{number}", container=OTHER), **more}
        await report(f"a question {what}", line)
    for what, line in (
        ("no JSON", b"garbage"),
        ("an empty line", b""),
        ("a carriage return", b'{"type":"shield_up","container":"crlf"}\r'),
        ("blanks around", b'  {"type":"shield_up","container":"blanks"}  '),
        ("a list", ["x"]),
        ("a word", "shield_up"),
        ("nothing in it", {}),
        ("an unknown type", {"type": "container_paused", "container": BOX}),
        ("an event of the hub's own", {"type": "verdict_applied", "container": BOX, "ok": True}),
        ("the wire's word for a question", {"type": "connection_blocked", "container": BOX, "id": "x"}),
        ("no container", {"type": "shield_up"}),
        ("a question without an id", {"type": "pending", "container": BOX, "dest": "192.0.2.1"}),
        ("a key twice", b'{"type":"shield_up","container":"first","container":"last"}'),
        ("a number for a reason", {"type": "container_exited", "container": OTHER, "reason": 7}),
    ):
        await report(f"a line of {what}", line)
