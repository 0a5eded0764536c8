# SPDX-License-Identifier: Apache-2.0
"""Uses a hub with PyPI's `asyncvarlink`, its public API: asyncvarlink_client.py SOCKET."""

import asyncio
import dataclasses
import sys
import typing

from asyncvarlink import (
    TypedVarlinkErrorReply,
    VarlinkClientProtocol,
    VarlinkInterface,
    connect_unix_varlink,
    varlinkmethod,
)
from asyncvarlink.serviceinterface import VarlinkServiceInterface

CONTAINER = "0123456789ab"


@dataclasses.dataclass
class ClearanceEvent:
    """An event; the library refuses one with a field more or less."""

    type: str
    container: str
    request_id: str
    dest: str
    port: int
    proto: int
    domain: str
    action: str
    ok: bool
    reason: str
    dossier: dict[str, str]


class UnknownRequest(TypedVarlinkErrorReply, interface="org.terok.Clearance1"):
    class Parameters:
        request_id: str


class VerdictTupleMismatch(TypedVarlinkErrorReply, interface="org.terok.Clearance1"):
    class Parameters:
        expected_container: str
        expected_dest: str
        got_container: str
        got_dest: str


class Clearance1(VarlinkInterface, name="org.terok.Clearance1"):
    errors = (UnknownRequest, VerdictTupleMismatch)

    @varlinkmethod(return_parameter="event", delay_generator=False)
    async def Subscribe(self) -> typing.AsyncIterator[ClearanceEvent]:
        raise NotImplementedError
        yield

    @varlinkmethod(return_parameter="ok")
    async def Verdict(self, *, container: str, request_id: str, dest: str, action: str) -> bool:
        raise NotImplementedError


async def refused(error, call):
    try:
        reply = await call
    except error as refusal:
        return refusal
    raise AssertionError(f"not refused but answered with {reply}")


async def main(path):
    transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
    service = protocol.make_proxy(VarlinkServiceInterface)
    info = await service.GetInfo()
    assert {"org.terok.Clearance1", "org.terok.Clearance2"} <= set(info["interfaces"]), info
    for name in info["interfaces"]:
        description = (await service.GetInterfaceDescription(interface=name))["description"]
        assert f"interface {name}" in description, description
    verdicts = protocol.make_proxy(Clearance1)

    events_transport, events_protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
    stream = events_protocol.make_proxy(Clearance1).Subscribe()
    first = (await anext(stream))["event"]
    assert first.type == "connection_blocked" and first.container == CONTAINER, first
    answer = {
        "container": CONTAINER,
        "request_id": first.request_id,
        "dest": first.domain or first.dest,
        "action": "deny",
    }
    wrong = answer | {"container": "another"}
    mismatch = await refused(VerdictTupleMismatch, verdicts.Verdict(**wrong))
    assert mismatch.p_expected_container == CONTAINER, mismatch
    assert mismatch.p_got_container == "another", mismatch
    assert (await verdicts.Verdict(**answer))["ok"] is True
    unknown = await refused(UnknownRequest, verdicts.Verdict(**answer))
    assert unknown.p_request_id == first.request_id, unknown
    event = first
    while event.type != "verdict_applied":
        event = (await anext(stream))["event"]
    assert event.request_id == first.request_id and event.ok and event.action == "deny", event
    events_transport.close()
    transport.close()
    print("ok")


asyncio.run(main(*sys.argv[1:]))
