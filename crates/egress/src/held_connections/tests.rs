// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use terok_clearance::{PacketHost, Protocol};

use super::*;

fn key(port: u16) -> ConnectionKey {
    ConnectionKey {
        client: SocketAddr::from(([198, 19, 0, 2], port)),
        remote: SocketAddr::from(([198, 18, 0, 5], 443)),
    }
}

fn dest(name: &str) -> PacketDest {
    PacketDest {
        host: PacketHost::Name(name.parse().unwrap()),
        port: 443,
        protocol: Protocol::TCP,
    }
}

fn held(dest: PacketDest, sequence: u32, since: Instant) -> HeldConnection {
    HeldConnection {
        sequence,
        packet: Box::default(),
        dest,
        since,
        last_seen: since,
        pause: Duration::ZERO,
        state: HoldState::Asked,
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn a_repeated_first_packet_is_known_by_its_sequence_number() {
    let (now, mut table) = (start(), HeldConnections::default());
    let new = FirstPacket::New { replaced: None };
    assert_eq!(table.note_first_packet(&key(1), 7, now), new);
    table.insert(key(1), held(dest("a.example"), 7, now));
    let later = now + Duration::from_secs(3);
    assert_eq!(
        table.note_first_packet(&key(1), 7, later),
        FirstPacket::Repeated
    );
    assert_eq!(table.get(&key(1)).unwrap().last_seen, later);
    // Another connection with the same addresses withdraws the old one.
    let replaced = Some(dest("a.example"));
    assert_eq!(
        table.note_first_packet(&key(1), 8, later),
        FirstPacket::New { replaced }
    );
    assert!(table.is_empty());
    assert_eq!(table.asked_dests().count(), 0);
}

#[test]
fn a_full_table_takes_no_connection_and_keeps_those_it_has() {
    let (now, mut table) = (start(), HeldConnections::default());
    for n in 0..MAX_HELD_CONNECTIONS {
        let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
        let at = ConnectionKey {
            client: SocketAddr::from(([10, 0, high, low], 1)),
            ..key(1)
        };
        table.insert(at, held(dest("a.example"), 1, now));
    }
    assert_eq!(table.note_first_packet(&key(1), 1, now), FirstPacket::Full);
    assert_eq!(table.waiting(&dest("a.example")).0, MAX_HELD_CONNECTIONS);
}

#[test]
fn programs_that_give_up_and_limits_end_a_wait() {
    let (now, mut table) = (start(), HeldConnections::default());
    let after = |seconds| now + Duration::from_secs(seconds);
    table.insert(key(1), held(dest("a.example"), 1, now));
    table.insert(key(2), held(dest("a.example"), 1, after(1)));
    table.insert(key(3), held(dest("b.example"), 1, now));
    assert!(table.start_dialing(&key(3), RuleTag(1)));
    assert_eq!(table.waiting(&dest("a.example")), (2, Some(now)));
    assert_eq!(table.waiting(&dest("b.example")).0, 0);

    assert_eq!(
        table.note_first_packet(&key(1), 1, after(4)),
        FirstPacket::Repeated
    );
    let given_up: Vec<_> = table
        .take_given_up(after(5))
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(given_up.len(), 2, "{given_up:?}");
    assert!(!given_up.contains(&key(1)));

    assert!(
        table
            .take_over_limit(Duration::from_secs(60), after(59))
            .is_empty()
    );
    assert_eq!(
        table
            .take_over_limit(Duration::from_secs(60), after(60))
            .len(),
        1
    );
    assert!(table.is_empty());
}

#[test]
fn a_dialed_connection_is_not_ended_by_the_limit_of_the_wait() {
    let (now, mut table) = (start(), HeldConnections::default());
    table.insert(key(1), held(dest("a.example"), 1, now));
    assert!(table.start_dialing(&key(1), RuleTag(1)));
    assert!(!table.start_dialing(&key(2), RuleTag(1)));
    assert!(table.take_over_limit(Duration::ZERO, now).is_empty());
    assert!(table.get(&key(1)).is_some());
}

proptest! {
    /// Both indices of the table agree after any sequence of operations.
    #[test]
    fn the_connections_of_a_destination_are_those_that_wait_for_it(
        steps in prop::collection::vec((0_u8..5, 1_u16..6, 0_u8..3, 0_u32..2), 0..60),
    ) {
        let (now, mut table) = (start(), HeldConnections::default());
        for (step, port, name, sequence) in steps {
            let dest = dest(&format!("h{name}.example"));
            match step {
                0 => drop(table.note_first_packet(&key(port), sequence, now)),
                1 => table.insert(key(port), held(dest, sequence, now)),
                2 => drop(table.remove(&key(port))),
                3 => drop(table.start_dialing(&key(port), RuleTag(1))),
                _ => drop(table.take_over_limit(Duration::ZERO, now)),
            }
            for name in 0..3 {
                let dest = self::dest(&format!("h{name}.example"));
                let mut waiting = table.waiting_for(&dest);
                waiting.sort();
                let mut expected: Vec<_> = (1..6).map(key).filter(|key| {
                    table.get(key).is_some_and(|held| {
                        held.dest == dest && held.state == HoldState::Asked
                    })
                }).collect();
                expected.sort();
                prop_assert_eq!(&waiting, &expected);
                prop_assert_eq!(table.waiting(&dest).0, expected.len());
            }
        }
    }
}
