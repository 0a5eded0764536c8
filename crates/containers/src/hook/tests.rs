// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::os::unix::net::UnixListener;
use std::thread::{JoinHandle, spawn};

use super::*;

/// A bundle and a runtime directory.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bundle")).unwrap();
        std::fs::write(directory.path().join("bundle/config.json"), config).unwrap();
        std::fs::create_dir_all(directory.path().join("terok/containers")).unwrap();
        Self { directory }
    }

    fn guardable() -> Self {
        Self::new(r#"{"linux":{"namespaces":[{"type":"network"}]}}"#)
    }

    fn state(&self, annotations: &[(&str, &str)]) -> OciState {
        let annotations = annotations.iter();
        OciState {
            id: "17aa51f7a19a3405".parse().unwrap(),
            pid: Some(std::process::id()),
            bundle: self.directory.path().join("bundle"),
            annotations: annotations
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn start(&self, annotations: &[(&str, &str)]) -> Result<(), HookError> {
        create_runtime(&self.state(annotations), self.directory.path())
    }

    /// Replies to one hook, and returns its request.
    fn supervisor(&self, reply: &'static str) -> JoinHandle<String> {
        let listener = UnixListener::bind(self.directory.path().join(START_SOCKET)).unwrap();
        spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            (&stream).write_all(reply.as_bytes()).unwrap();
            request
        })
    }
}

const DIALED: (&str, &str) = (annotation_keys::NETWORK, "dialed");

#[test]
fn a_container_starts_after_the_word_of_its_supervisor() {
    let host = Host::guardable();
    let supervisor = host.supervisor("\"ready\"\n");
    host.start(&[DIALED, ("dossier.task", "build"), ("io.x", "secret")])
        .unwrap();
    let request: StartRequest = serde_json::from_str(&supervisor.join().unwrap()).unwrap();
    assert_eq!(request.pid, std::process::id());
    assert_eq!(request.network, ContainerNetwork::Dialed);
    assert!(request.asks_loopback, "it has no resolv.conf");
    let keys: Vec<_> = request.annotations.keys().collect();
    assert_eq!(keys, ["dossier.task", annotation_keys::NETWORK]);
}

#[test]
fn nothing_but_the_word_of_a_supervisor_starts_a_container() {
    for reply in [
        "",
        "\n",
        "\"read",
        "\"Ready\"\n",
        "{}\n",
        "true\n",
        "[\"ready\"]\n",
    ] {
        let host = Host::guardable();
        let supervisor = host.supervisor(reply);
        let refused = host.start(&[DIALED]);
        assert!(matches!(refused, Err(HookError::NoReply(_))), "{reply:?}");
        supervisor.join().unwrap();
    }
    let host = Host::guardable();
    let supervisor = host.supervisor("{\"refused\":\"no \\u001b[2J room\"}\n");
    let refused = host.start(&[DIALED]).unwrap_err();
    assert_eq!(refused.to_string(), "no  [2J room");
    supervisor.join().unwrap();
}

#[test]
fn a_container_without_a_supervisor_does_not_start() {
    let host = Host::guardable();
    let refused = host.start(&[DIALED]).unwrap_err();
    assert!(matches!(refused, HookError::NoSupervisor { .. }));
    // A socket that its process has left.
    drop(UnixListener::bind(host.directory.path().join(START_SOCKET)).unwrap());
    let refused = host.start(&[DIALED]).unwrap_err();
    assert!(matches!(refused, HookError::NoSupervisor { .. }));
}

#[test]
fn containers_that_cannot_be_guarded_are_refused_without_a_supervisor() {
    let host = Host::guardable();
    for annotations in [&[][..], &[(annotation_keys::NETWORK, "open")]] {
        let refused = host.start(annotations);
        assert!(matches!(refused, Err(HookError::Network(_))));
    }
    let refused = host.start(&[DIALED, (SHIELD_ANNOTATION, "/s")]);
    assert!(matches!(refused, Err(HookError::OtherShield)));
    let refused = Host::new("{}").start(&[DIALED]);
    assert!(matches!(
        refused,
        Err(HookError::Unguardable(UnguardableContainer::HostNetwork))
    ));
    let refused = Host::new("{").start(&[DIALED]);
    assert!(matches!(refused, Err(HookError::ReadConfig { .. })));
    let mut ended = host.state(&[DIALED]);
    ended.pid = None;
    let refused = create_runtime(&ended, host.directory.path());
    assert!(matches!(refused, Err(HookError::NoProcess)));
}

#[test]
fn failures_are_logged_in_a_bounded_file() {
    let host = Host::guardable();
    let error = host.start(&[DIALED]).unwrap_err();
    let path = host.directory.path().join(HOOK_ERROR_LOG);
    let id = host.state(&[]).id;
    log_failure(host.directory.path(), Some(&id), &error).unwrap();
    log_failure(host.directory.path(), None, &error).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line.contains("does not answer")));
    assert!(text.contains(" 17aa51f7a19a ") && text.contains(" - "));
    let size = usize::try_from(MAX_LOG_BYTES).unwrap();
    std::fs::write(&path, "x".repeat(size + 1)).unwrap();
    log_failure(host.directory.path(), None, &error).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 1_000);
}
