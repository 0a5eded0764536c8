# SPDX-License-Identifier: Apache-2.0
"""What a program in a sandbox does with the socket for requests, one deed for each first argument."""

import json
import os
import socket
import sys

PATH = os.environ.get("TEROK_CLEARANCE_REQUEST", "")
INTERFACE = "org.terok.ClearanceRequest1"


def connect(path=None):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(path or PATH)
    return stream


def read_frame(stream):
    data = b""
    while not data.endswith(b"\0"):
        block = stream.recv(65536)
        if not block:
            return None
        data += block
    return json.loads(data[:-1])


def call(stream, method, **parameters):
    message = {"method": method, "parameters": parameters}
    stream.sendall(json.dumps(message).encode() + b"\0")
    return read_frame(stream)


def answer_itself(question):
    """Tries every method that answers, and some that tell of others."""
    container = question.split(":")[0]
    decide = {"request": question, "container": container, "dest": "plain.test", "action": "allow"}
    verdict = {"container": container, "request_id": question, "dest": "plain.test",
               "action": "allow"}
    with connect() as stream:
        for method, parameters in [
            ("org.terok.Clearance2.Decide", decide),
            ("org.terok.Clearance1.Verdict", verdict),
            ("org.terok.Clearance2.List", {}),
            ("org.terok.Clearance2.Rules", {}),
            ("org.terok.Clearance2.Bypass", {"seconds": 60}),
            ("org.terok.ClearanceVerdict1.Apply",
             {"container": container, "dest": "plain.test", "action": "allow"}),
            (INTERFACE + ".Decide", decide),
            (INTERFACE + ".List", {}),
        ]:
            print(call(stream, method, **parameters)["error"])
        info = call(stream, "org.varlink.service.GetInfo")
        print(*info["parameters"]["interfaces"])


def status(*questions):
    with connect() as stream:
        for question in questions:
            print(call(stream, INTERFACE + ".Status", id=question).get("error"))


def reason(text):
    """Requests plain.test with a reason, in which \\xHH stands for a character."""
    text = text.encode().decode("unicode_escape")
    with connect() as stream:
        reply = call(stream, INTERFACE + ".Request", dest="plain.test", port=7004, reason=text)
        print(reply["parameters"]["state"])


def hostile():
    """A thousand connections, lines without an end, garbage, hang-ups; then a plain question."""
    served = closed = 0
    for _ in range(2):
        streams = [connect() for _ in range(500)]
        for stream in streams:
            try:
                reply = call(stream, INTERFACE + ".Explain", dest="plain.test")
            except OSError:
                reply = None
            if reply:
                served += 1
            else:
                closed += 1
        for stream in streams:
            stream.close()
    print("served", served, "closed", closed)
    for data in [b"x" * 100_000, b"\0" * 5000, b"{}\0", b"[1]\0", b'{"method":"a.b"}\0',
                 b"\xff\xfe\0", b'{"method":"' + b"[" * 3000 + b"\0"]:
        with connect() as stream:
            try:
                stream.sendall(data)
                stream.recv(1)
            except OSError:
                pass
    with connect() as stream:
        print(call(stream, INTERFACE + ".Explain", dest="plain.test")["parameters"]["state"])


def many(count):
    """Requests many destinations; counts the states."""
    states = {}
    with connect() as stream:
        for number in range(int(count)):
            reply = call(stream, INTERFACE + ".Request", dest=f"h{number}.test", reason="many")
            state = reply["parameters"]["state"]
            states[state] = states.get(state, 0) + 1
    print(*(f"{count} {state}" for state, count in sorted(states.items())))


def reach(path):
    """Connects to a socket of the operator's side."""
    connect(path)
    print("connected")


def spoof():
    """Tries to take the socket's place for other programs of the sandbox."""
    for deed in (
        lambda: os.remove(PATH),
        lambda: os.rename(PATH, PATH + ".old"),
        lambda: os.rename(os.path.dirname(PATH), "/run/elsewhere"),
        lambda: os.symlink("/tmp", os.path.join(os.path.dirname(PATH), "other")),
        lambda: socket.socket(socket.AF_UNIX).bind(PATH),
        lambda: socket.socket(socket.AF_UNIX).bind(PATH + "2"),
    ):
        try:
            deed()
            print("done")
        except OSError as error:
            print(type(error).__name__)


DEEDS = [answer_itself, status, reason, hostile, many, reach, spoof]
try:
    {deed.__name__: deed for deed in DEEDS}[sys.argv[1]](*sys.argv[2:])
except OSError as error:
    print("failed:", error.strerror)
    sys.exit(1)
