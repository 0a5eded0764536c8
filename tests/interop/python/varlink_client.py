# SPDX-License-Identifier: Apache-2.0
"""Uses a hub with PyPI's `varlink`: varlink_client.py SOCKET."""

import sys

import varlink

CONTAINER = "0123456789ab"


def refused(name, call, **parameters):
    """Asserts that `call` is refused with the error `name`, and returns its parameters."""
    try:
        reply = call(**parameters)
    except varlink.VarlinkError as error:
        assert error.error() == name, error
        return error.parameters()
    raise AssertionError(f"{parameters} was not refused but answered with {reply}")


def main(path):
    with varlink.Client(f"unix:{path}") as client:
        interfaces = client.get_interfaces()
        for name in ("org.terok.Clearance1", "org.terok.Clearance2", "org.varlink.service"):
            assert name in interfaces, interfaces
            # The library parses the description, so it is one.
            assert client.get_interface(name).get_description().startswith("#")

        with client.open("org.terok.Clearance1") as events, client.open(
            "org.terok.Clearance1"
        ) as verdicts, client.open("org.terok.Clearance2") as newer:
            stream = events.Subscribe(_more=True)
            first, second = next(stream)["event"], next(stream)["event"]
            assert first["type"] == second["type"] == "connection_blocked", first
            assert len(first) == 11, first
            answer = {
                "container": CONTAINER,
                "request_id": first["request_id"],
                "dest": first["domain"] or first["dest"],
                "action": "allow",
            }
            clearance1 = "org.terok.Clearance1."
            got = refused(
                clearance1 + "InvalidAction", verdicts.Verdict, **(answer | {"action": "accept"})
            )
            assert got == {"action": "accept"}, got
            got = refused(
                clearance1 + "VerdictTupleMismatch",
                verdicts.Verdict,
                **(answer | {"dest": "elsewhere.example"}),
            )
            assert got["expected_dest"] == answer["dest"], got
            assert got["got_dest"] == "elsewhere.example", got
            assert verdicts.Verdict(**answer) == {"ok": True}
            refused(clearance1 + "UnknownRequest", verdicts.Verdict, **answer)
            applied = next(stream)["event"]
            while applied["type"] != "verdict_applied":
                applied = next(stream)["event"]
            assert applied["request_id"] == first["request_id"] and applied["ok"], applied

            pending = newer.List()["requests"]
            assert second["request_id"] in [request["id"] for request in pending], pending
            decision = newer.Decide(
                request=second["request_id"],
                container=CONTAINER,
                dest=second["domain"] or second["dest"],
                action="dismiss",
            )["decision"]
            assert decision["action"] == "dismiss" and decision["ok"], decision
            newest = newer.History(limit=2)["decisions"]
            assert [entry["action"] for entry in newest] == ["dismiss", "allow"], newest
    print("ok")


main(*sys.argv[1:])
