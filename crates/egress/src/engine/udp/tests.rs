// SPDX-License-Identifier: Apache-2.0
//! Tests of the table of flows.

use std::future::pending;

use terok_clearance::DestZone;
use tokio::task::JoinSet;

use super::*;

fn key(port: u16) -> ConnectionKey {
    ConnectionKey {
        client: SocketAddr::from(([198, 18, 0, 2], port)),
        remote: SocketAddr::from(([203, 0, 113, 7], 53_000)),
    }
}

fn flow(state: FlowState) -> UdpFlow {
    let dest = PacketDest {
        host: PacketHost::Address([203, 0, 113, 7].into()),
        port: 53_000,
        protocol: Protocol::UDP,
    };
    UdpFlow {
        destination: ZonedDest {
            dest,
            zone: DestZone::Public,
            looked_up_as: None,
        },
        since: Instant::now(),
        state,
    }
}

fn dialing(dial: &AbortHandle) -> UdpFlow {
    flow(FlowState::Dialing {
        queue: VecDeque::new(),
        dial: dial.clone(),
        rule: RuleTag(1),
    })
}

#[tokio::test]
async fn a_flow_that_ends_ends_its_dial() {
    let mut dials = JoinSet::new();
    let mut flows = UdpFlows::default();
    for port in 1..=u16::try_from(MAX_FLOWS).unwrap() {
        let dial = dials.spawn(pending::<()>());
        flows.insert(key(port), dialing(&dial));
    }
    flows.make_room().unwrap();
    flows.remove(&key(100));
    for _ in 0..2 {
        let ended = dials.join_next().await.unwrap();
        assert!(ended.unwrap_err().is_cancelled());
    }
    assert_eq!(flows.flows.len(), dials.len());
}

#[tokio::test]
async fn the_dial_of_an_earlier_flow_does_not_end_a_later_one() {
    let mut dials = JoinSet::new();
    let [earlier, later] = [(); 2].map(|()| dials.spawn(pending::<()>()));
    let mut flows = UdpFlows::default();

    let mut asked = flow(FlowState::Asked(VecDeque::new()));
    asked.destination.dest.port = 9;
    let dest = asked.destination.dest.clone();
    flows.insert(key(1), asked);
    assert!(flows.take_dialed(&key(1), earlier.id()).is_none());
    assert_eq!(flows.waiting(&dest).0, 1);

    flows.insert(key(1), dialing(&later));
    flows.push_waiting(&key(1), b"datagram");
    assert!(flows.take_dialed(&key(1), earlier.id()).is_none());
    let (_, queue, _) = flows.take_dialed(&key(1), later.id()).unwrap();
    assert_eq!(queue, [b"datagram"]);
    assert_eq!((flows.is_empty(), flows.waiting_bytes), (true, 0));
}
