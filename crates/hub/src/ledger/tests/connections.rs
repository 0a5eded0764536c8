// SPDX-License-Identifier: Apache-2.0
//! Zones, names of addresses, and held connections of questions.

use super::*;

#[test]
fn another_zone_is_another_question_and_its_answer_covers_no_other() {
    let mut ledger = ledger();
    let asked_in = |request: &str, zone| BlockedPacket {
        zone,
        domain: Some("a.example".parse().unwrap()),
        ..blocked("c", request, "a.example", 443)
    };
    for (request, zone) in [
        ("c:1", NetworkZone::Public),
        ("c:2", NetworkZone::LocalNetwork),
        ("c:3", NetworkZone::ThisHost),
    ] {
        assert!(ledger.record(asked_in(request, zone), at(1)).is_new);
        let again = format!("{request}0");
        assert!(!ledger.record(asked_in(&again, zone), at(2)).is_new);
    }
    let one = asked("c:1", "c", "a.example");
    let (order, receipt) = claim(&mut ledger, one).unwrap();
    assert_eq!(order.zone(), NetworkZone::Public);
    assert!(apply(&mut ledger, receipt).is_empty());
    assert_eq!(ids(&ledger), ["c:2", "c:3"]);
}

#[test]
fn the_newest_name_that_led_to_an_address_is_shown_and_counted_as_text() {
    let mut ledger = ledger();
    let asked_as = |request: &str, name: &str| BlockedPacket {
        zone: NetworkZone::LocalNetwork,
        looked_up_as: Some(name.parse().unwrap()),
        previous: None,
        reason: None,
        ..blocked("c", request, "192.168.1.20", 443)
    };
    let number = ledger.record(asked_as("c:1", "a.example"), at(1)).number;
    let before = ledger.text_bytes;
    ledger.record(asked_as("c:1", "longer.example"), at(2));
    assert_eq!(ledger.text_bytes, before + "longer".len() - "a".len());
    let request = ledger.question(number).unwrap().to_request();
    assert_eq!(
        request.looked_up_as,
        Some("longer.example".parse().unwrap())
    );
    assert_eq!(request.dest.as_str(), "192.168.1.20");
    assert_eq!(request.zone, NetworkZone::LocalNetwork);
}

#[test]
fn held_connections_belong_to_the_newest_question_with_the_id() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:1", "192.0.2.9", 443), at(6));
    let waiting = WaitingConnections {
        count: 1,
        ..WaitingConnections::default()
    };
    let id = "c:1".parse().unwrap();
    assert_eq!(ledger.set_waiting(&id, waiting), Some(2));
    assert_eq!(ledger.set_waiting(&id, waiting), None, "unchanged");
    assert_eq!(ledger.set_waiting(&"c:7".parse().unwrap(), waiting), None);
    assert_eq!(ledger.question(2).unwrap().waiting(), waiting);
    assert_eq!(ledger.question(1).unwrap().waiting().count, 0);
}

#[test]
fn an_id_reused_in_another_zone_answers_its_own_question_only() {
    let asked_in = |zone| BlockedPacket {
        zone,
        domain: Some("a.example".parse().unwrap()),
        ..blocked("c", "c:1", "a.example", 443)
    };
    for zones in [
        [NetworkZone::Public, NetworkZone::ThisHost],
        [NetworkZone::ThisHost, NetworkZone::Public],
    ] {
        let mut ledger = ledger();
        for zone in zones {
            ledger.record(asked_in(zone), at(1));
        }
        assert_eq!(ids(&ledger), ["c:1", "c:1.2"]);
        for (id, zone) in [("c:1", zones[0]), ("c:1.2", zones[1])] {
            let (order, _receipt) = claim(&mut ledger, asked(id, "c", "a.example")).unwrap();
            assert_eq!(order.zone(), zone, "{id}");
        }
    }
}

#[test]
fn the_first_reason_of_a_question_stays_and_texts_of_others_count() {
    let mut ledger = ledger();
    let with_reason = |request: &str, reason: Option<&str>| BlockedPacket {
        reason: reason.map(DisplayText::new),
        ..blocked("c", request, "a.example", 443)
    };
    let number = ledger.record(with_reason("c:1", None), at(1)).number;
    let before = ledger.text_bytes;
    for (request, reason) in [
        ("c:1", Some("first")),
        ("c:1", Some("other words")),
        ("c:1", None),
    ] {
        assert!(!ledger.record(with_reason(request, reason), at(2)).is_new);
    }
    assert_eq!(ledger.text_bytes, before + "first".len());
    let id = "c:1".parse().unwrap();
    assert_eq!(ledger.set_approver_note(&id, "unsure".into()), Some(number));
    assert_eq!(
        ledger.set_approver_note(&id, "unsure".into()),
        None,
        "unchanged"
    );
    assert_eq!(ledger.text_bytes, before + "first".len() + "unsure".len());
    let request = ledger.find_question(&id).unwrap().to_request();
    assert_eq!(request.reason, Some("first".into()));
    assert_eq!(request.approver, Some("unsure".into()));
    let unknown = "c:9".parse().unwrap();
    assert_eq!(ledger.set_approver_note(&unknown, "x".into()), None);
    assert!(ledger.find_question(&unknown).is_none());
}
