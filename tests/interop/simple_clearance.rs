// SPDX-License-Identifier: Apache-2.0
//! The terminal fallback for one container: the original of each stack and ours, told the same and
//! shown the same, with real packets and the stack's own ruleset and `terok-shield`.

mod container;

use rustix::process::Signal;
use serde_json::{Value, json};
use terok_clearance::socket::SocketLayout;
use tokio::net::UnixListener;
use tokio::process::Command;

use crate::harness::{Running, Stack};
use container::{Container, ID, NAME, end, is_free, knock, lives};

/// Holds the conversation of which the screen is compared, and returns all of the screen.
async fn converse(container: &Container, command: Command) -> String {
    let prompt = "allow/deny? ";
    let mut asking = container.asking(command).await;
    let mut screen = String::new();
    knock("203.0.113.7", 443);
    screen += &asking.until(prompt).await;
    knock("203.0.113.8", 53);
    screen += &asking.until(prompt).await;
    screen += &{
        asking.say("yes please").await;
        asking.until(prompt).await
    };
    // An empty line is none; the next one shows that it was not answered.
    asking.say("").await;
    asking.say(" Allow ").await;
    screen += &asking.until(prompt).await;
    std::fs::write(container.broken(), "").unwrap();
    asking.say("a").await;
    screen += &asking.until(prompt).await;
    std::fs::remove_file(container.broken()).unwrap();
    asking.say("D").await;
    screen += &asking.until("denied 203.0.113.8 (b.example)\n").await;
    asking.say("a").await;
    asking.say("?").await;
    screen += &asking.until("'d' to deny.\n").await;
    let ended = asking.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.output, "");
    is_free().await;
    screen
}

async fn the_same_screen(stack: Stack) {
    let container = Container::new(stack);
    let log = "Jan  1 00:00:00 dnsmasq[1]: reply b.example is 203.0.113.8\n";
    std::fs::write(container.state().join("dnsmasq.log"), log).unwrap();
    let theirs = converse(&container, container.original()).await;
    let expected = "\
[BLOCKED] 203.0.113.7 :443 \u{2014} allow/deny? 
[BLOCKED] 203.0.113.8 (b.example) :53 (queued)
[BLOCKED] 203.0.113.7 :443 \u{2014} allow/deny?   Unknown input. Type 'a' to allow or 'd' to deny.
[BLOCKED] 203.0.113.7 :443 \u{2014} allow/deny?   \u{2713} allowed 203.0.113.7
[BLOCKED] 203.0.113.8 (b.example) :53 \u{2014} allow/deny?   ! verdict failed for 203.0.113.8 (retry with a/d)
[BLOCKED] 203.0.113.8 (b.example) :53 \u{2014} allow/deny?   \u{2717} denied 203.0.113.8 (b.example)
  Unknown input. Type 'a' to allow or 'd' to deny.
";
    assert_eq!(theirs, expected);
    let [allowed, denied] = ["203.0.113.7", "203.0.113.8"].map(Container::sets_of);
    assert!(!allowed.is_empty() && !denied.is_empty() && allowed != denied);

    for ours in [container.ours_with_their_reader(), container.ours(&[])] {
        let again = Container::sets_of;
        undo(
            &container,
            &[(&allowed, "203.0.113.7"), (&denied, "203.0.113.8")],
        );
        assert_eq!(converse(&container, ours).await, expected);
        assert_eq!(
            [again("203.0.113.7"), again("203.0.113.8")],
            [allowed.clone(), denied.clone()]
        );
    }
}

/// Takes back what was answered, in the kernel and in the state directory.
fn undo(container: &Container, elements: &[(&Vec<String>, &str)]) {
    for (sets, address) in elements {
        for set in *sets {
            let delete = format!("delete element inet terok_shield {set} {{ {address} }}");
            let deleted = std::process::Command::new("nft").arg(delete).status();
            assert!(deleted.unwrap().success());
        }
    }
    for entry in std::fs::read_dir(container.state()).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "dnsmasq.log" => {}
            "policy" => std::fs::remove_dir_all(path).unwrap(),
            _ => std::fs::remove_file(path).unwrap(),
        }
    }
}

#[tokio::test]
async fn the_screen_is_the_original_of_0_7_0s() {
    the_same_screen(Stack::V0_7_0).await;
}

#[tokio::test]
async fn the_screen_is_the_original_of_0_8_0s() {
    the_same_screen(Stack::V0_8_0).await;
}

#[tokio::test]
async fn the_screen_is_the_original_of_0_8_1s() {
    the_same_screen(Stack::V0_8_1).await;
}

#[tokio::test]
async fn a_signal_ends_both_in_good_order_and_writes_no_rule() {
    let container = Container::new(Stack::V0_8_1);
    for signal in [Signal::INT, Signal::TERM] {
        for command in [container.original(), container.ours(&[])] {
            let mut asking = container.asking(command).await;
            knock("203.0.113.7", 443);
            asking.until("allow/deny? ").await;
            asking.signal(signal);
            let ended = asking.end().await;
            assert_eq!(ended.status.code(), Some(0), "{signal:?}: {ended:?}");
            is_free().await;
            assert_eq!(Container::sets_of("203.0.113.7"), [""; 0]);
        }
    }
}

/// Runs ours to its end, which is a refusal, and returns what it says.
async fn refused(command: &mut Command) -> String {
    let ended = Running::start(command).end().await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.output, "", "nothing was watched");
    ended.errors
}

#[tokio::test]
async fn a_hub_that_serves_the_container_is_not_raced_where_the_original_races_it() {
    let container = Container::new(Stack::V0_8_1);
    for ours in [true, false] {
        let hub = if ours {
            container.place.our_hub(&[]).await
        } else {
            container.place.their_hub(container.stack).await
        };
        let said = refused(&mut container.ours(&[])).await;
        let socket = container.place.runtime().shared_hub_sockets().hub;
        let expected = format!("a hub serves it: process {}", hub.pid().as_raw_nonzero());
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains(socket.to_str().unwrap()), "{said}");
        assert!(said.contains("hint: answer its questions with `terok-clearance clearance`"));

        // It looks for a name on the session bus that no hub owns any more.
        let original = container.asking(container.original()).await;
        original.signal(Signal::TERM);
        assert_eq!(original.end().await.status.code(), Some(0));
        is_free().await;
        hub.signal(Signal::TERM);
        hub.end().await;
    }
}

#[tokio::test]
async fn a_hub_of_its_own_is_found_in_each_layout_and_a_dead_socket_is_none() {
    let container = Container::new(Stack::V0_8_1);
    let id = ID.parse().unwrap();
    for layout in [SocketLayout::C, SocketLayout::D] {
        let path = container.place.runtime().sandbox_sockets(&id, layout).hub;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let hub = UnixListener::bind(&path).unwrap();
        let said = refused(&mut container.ours(&[])).await;
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        drop(hub);
        assert!(path.exists());
        let asking = container.asking(container.ours_with_their_reader()).await;
        assert_eq!(asking.end().await.status.code(), Some(0));
        is_free().await;
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn the_name_on_the_bus_still_refuses_both() {
    let container = Container::new(Stack::V0_8_1);
    container.program(
        "dbus-send",
        "#!/bin/sh\ncase \"$*\" in\n*NameHasOwner\\ string:org.terok.Shield1)\n\
         echo '   boolean true';;\n*) exit 1;;\nesac\n",
    );
    let bus = |mut command: Command| {
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        command
    };
    let theirs = refused(&mut bus(container.original())).await;
    let ours = refused(&mut bus(container.ours(&[]))).await;
    for said in [theirs, ours] {
        let words = "D-Bus hub (org.terok.Shield1) is active \u{2014} use a D-Bus clearance client \
                     (desktop notifier or TUI)";
        assert!(said.contains(words), "{said}");
        assert!(
            said.contains("systemctl --user stop terok-clearance-hub"),
            "{said}"
        );
    }
    // Without a bus there is none to ask, and none is started.
    let asking = container.asking(container.ours_with_their_reader()).await;
    assert_eq!(asking.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_group_that_is_taken_is_said_and_by_whom_where_the_original_watches_nothing() {
    let container = Container::new(Stack::V0_8_1);
    let first = container.asking(container.ours(&[])).await;
    let mut original = container.original();
    let original = Running::start(&mut original).end().await;
    assert_eq!(original.status.code(), Some(0), "{original:?}");
    assert!(original.output.starts_with("Watching"), "{original:?}");

    let mut second = Running::start(&mut container.ours(&[]));
    let said = second.until_error("error: the reader ended").await;
    assert_eq!(second.end().await.status.code(), Some(1));
    // Its own reader has said who listens: the other one's.
    let holder = format!("reader {} {NAME} --emit=json", container.state().display());
    assert!(said.contains(&holder), "{said}");
    assert_eq!(first.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn the_hooks_reader_is_taken_over_and_started_again() {
    for stack in Stack::ALL {
        let container = Container::new(stack);
        let hooked = container.hooked().await;
        let pid = hooked.pid().as_raw_nonzero().to_string();
        let said = refused(&mut container.ours_with_their_reader()).await;
        assert!(said.contains(&format!("process {pid} (")), "{said}");
        assert!(said.contains("hint: --take-over ends it"), "{said}");
        assert!(container::is_listened_to(), "it was left alone");

        let script = container.script();
        let over = container.ours(&["--take-over", "--reader", script.to_str().unwrap()]);
        let mut asking = Running::start(&mut { over });
        asking.until("(Ctrl-C to stop)\n\n").await;
        hooked.end().await;
        while !container::is_listened_to() {
            asking.alive();
            tokio::task::yield_now().await;
        }
        knock("203.0.113.7", 443);
        asking
            .until("[BLOCKED] 203.0.113.7 :443 \u{2014} allow/deny? ")
            .await;
        asking.say("a").await;
        asking.until("allowed 203.0.113.7\n").await;
        let ended = asking.end().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let again = std::fs::read_to_string(container.state().join("reader.pid")).unwrap();
        let again = again.trim();
        assert_ne!(again, pid);
        let words = format!("the hook's reader listens to {NAME} again: process {again}");
        assert!(ended.errors.contains(&words), "{ended:?}");
        let installed = container.place.path().join("terok/shield/nflog-reader.py");
        while !container::is_listened_to() {
            let log = std::fs::read_to_string(container.state().join("reader.log"));
            assert!(lives(again), "{stack:?} {log:?} {ended:?}");
            tokio::task::yield_now().await;
        }
        let command = std::fs::read(format!("/proc/{again}/cmdline")).unwrap();
        assert!(String::from_utf8_lossy(&command).contains(installed.to_str().unwrap()));
        end(again);
        is_free().await;
        unmake();
    }
}

/// Makes the namespace empty again, for the next stack.
fn unmake() {
    for (program, words) in [("nft", "flush ruleset"), ("ip", "link delete out")] {
        let mut command = std::process::Command::new(program);
        assert!(command.args(words.split(' ')).status().unwrap().success());
    }
}

#[tokio::test]
async fn a_firewall_of_ours_is_changed_itself_and_opens_what_was_asked_alone() {
    let container = Container::new(Stack::V0_8_1);
    let preview = container.place.ours(&["preview"]).output().await.unwrap();
    container.load(&preview.stdout);
    let mut asking = container.asking(container.ours(&[])).await;
    asking
        .until_error("answers change the container's own firewall, port by port\n")
        .await;
    knock("203.0.113.7", 443);
    asking.until("allow/deny? ").await;
    asking.say("a").await;
    asking.until("\u{2713} allowed 203.0.113.7\n").await;
    let sets = Container::sets_of("203.0.113.7");
    assert!(sets.iter().any(|set| set.starts_with("allow")), "{sets:?}");
    assert!(Container::rules().contains("203.0.113.7 . udp . 443"));
    assert_eq!(asking.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_program_is_told_each_question_once_and_answers_by_its_id() {
    let container = Container::new(Stack::V0_8_1);
    let mut asking = Running::start(&mut container.ours(&["--json"]));
    assert_eq!(asking.json().await, json!({"event": "ready"}));
    while !container::is_listened_to() {
        asking.alive();
        tokio::task::yield_now().await;
    }
    knock("203.0.113.7", 443);
    let first = asking.json().await;
    let expected = json!({
        "event": "pending", "request": first["request"], "dest": "203.0.113.7", "port": 443,
        "protocol": "udp", "domain": "",
    });
    assert_eq!(first, expected);
    knock("203.0.113.8", 53);
    let second = asking.json().await;
    assert_eq!(
        (&second["event"], &second["before"]),
        (&json!("queued"), &json!(1))
    );

    let answer = |question: &Value| json!({"action": "allow", "request": question["request"]});
    asking.say(&answer(&second).to_string()).await;
    assert_eq!(asking.json().await["event"], "refused");
    std::fs::write(container.broken(), "").unwrap();
    asking.say(&answer(&first).to_string()).await;
    let failed = asking.json().await;
    assert_eq!(
        (&failed["event"], &failed["dest"]),
        (&json!("failed"), &json!("203.0.113.7"))
    );
    assert_ne!(failed["reason"], "");
    std::fs::remove_file(container.broken()).unwrap();
    asking.say(&answer(&first).to_string()).await;
    assert_eq!(asking.json().await["event"], "decided");
    let next = asking.json().await;
    assert_eq!(
        (&next["event"], &next["request"]),
        (&json!("pending"), &second["request"])
    );
    let ended = asking.end().await;
    assert_eq!((ended.status.code(), ended.errors.as_str()), (Some(0), ""));
    assert_eq!(Container::sets_of("203.0.113.8"), [""; 0]);
}

#[tokio::test]
async fn a_number_that_is_another_process_by_now_is_left_alone() {
    let container = Container::new(Stack::V0_8_1);
    let bystander = Running::start(container.place.command("sleep").arg("1000"));
    let pid = bystander.pid().as_raw_nonzero();
    std::fs::write(container.state().join("reader.pid"), format!("{pid}\n")).unwrap();
    let script = container.script();
    let over = ["--take-over", "--reader", script.to_str().unwrap()];
    let asking = container.asking(container.ours(&over)).await;
    let ended = asking.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let mut bystander = bystander;
    bystander.alive();
}
