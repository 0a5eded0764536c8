// SPDX-License-Identifier: Apache-2.0
//! Tests of the verdict helper over a real socket.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use terok_clearance::socket::bind;
use terok_clearance::varlink::VarlinkServeError;
use terok_clearance::{Action, Scope};
use terok_clearance_verdict::{VerdictBackend, VerdictClient, VerdictOrder, VerdictReply, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A backend that counts concurrent orders; `hang.example` waits for `release`.
#[derive(Debug, Default)]
struct Firewall {
    in_progress: AtomicUsize,
    max_in_progress: AtomicUsize,
    release: Notify,
    started: Notify,
}

impl VerdictBackend for Firewall {
    fn supports_ports(&self) -> bool {
        false
    }

    async fn apply(&self, order: &VerdictOrder) -> VerdictReply {
        let now = self.in_progress.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_progress.fetch_max(now, Ordering::SeqCst);
        let target = order.target().to_string();
        let reply = if target == "hang.example" {
            self.started.notify_one();
            self.release.notified().await;
            VerdictReply::applied()
        } else if target == "bad.example" {
            VerdictReply::failed("no such container\n\u{1b}[2J")
        } else {
            VerdictReply::applied()
        };
        self.in_progress.fetch_sub(1, Ordering::SeqCst);
        reply
    }
}

struct Running {
    dir: TempDir,
    socket: PathBuf,
    backend: Arc<Firewall>,
    stop: CancellationToken,
    task: JoinSet<Result<(), VarlinkServeError>>,
}

impl Running {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("run").join("verdict.sock");
        Self::at(dir, socket)
    }

    fn at(dir: TempDir, socket: PathBuf) -> Self {
        let backend = Arc::new(Firewall::default());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let listener = bind(&socket).unwrap();
        task.spawn(serve(listener, Arc::clone(&backend), stop.clone()));
        Self {
            dir,
            socket,
            backend,
            stop,
            task,
        }
    }

    async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        self.dir
    }
}

fn order(dest: &str) -> VerdictOrder {
    VerdictOrder::new(
        "web".parse().unwrap(),
        Action::Allow,
        Scope::until_removed(dest.parse().unwrap()),
    )
    .unwrap()
}

/// Sends bytes and returns the first reply without its NUL.
async fn raw(socket: &Path, call: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(call.as_bytes()).await.unwrap();
    stream.write_all(b"\0").await.unwrap();
    let mut bytes = Vec::new();
    while bytes.last() != Some(&0) {
        bytes.push(stream.read_u8().await.unwrap());
    }
    bytes.pop();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn replies_are_those_of_the_python_helper() {
    let running = Running::start();
    let apply = |parameters: &str| {
        let method = "org.terok.ClearanceVerdict1.Apply";
        format!("{{\"method\":\"{method}\",\"parameters\":{parameters}}}")
    };
    let calls = [
        apply(r#"{"container":"web","dest":"203.0.113.7","action":"allow"}"#),
        apply(r#"{"container":"web","dest":"bad.example","action":"deny"}"#),
        apply(r#"{"container":"-x","dest":"203.0.113.7","action":"allow"}"#),
        apply(r#"{"container":"web","dest":"*","action":"allow"}"#),
        apply(r#"{"container":"web","dest":"203.0.113.7","action":"open"}"#),
        apply(r#"{"container":"web","dest":"203.0.113.7"}"#),
        apply(r#"{"container":"web","dest":"203.0.113.7","action":"allow","port":1}"#),
        apply(r#"{"container":7,"dest":"203.0.113.7","action":"allow"}"#),
        r#"{"method":"org.terok.ClearanceVerdict1.Reset"}"#.to_owned(),
        r#"{"method":"org.varlink.service.GetInfo"}"#.to_owned(),
    ];
    let mut replies = String::new();
    for call in calls {
        let reply = raw(&running.socket, &call).await;
        replies = format!("{replies}{reply}\n");
    }
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    insta::assert_snapshot!(replies.replace(&version, "\"VERSION\""));
    running.stop().await;
}

#[tokio::test]
async fn an_order_is_applied_over_the_socket() {
    let running = Running::start();
    let client = VerdictClient::new(&running.socket);
    assert_eq!(
        client.apply(&order("203.0.113.7")).await,
        VerdictReply::applied()
    );
    let reply = client.apply(&order("bad.example")).await;
    assert_eq!(
        (reply.ok, reply.stderr.as_str()),
        (false, "no such container  [2J")
    );
    running.stop().await;
}

#[tokio::test]
async fn one_order_does_not_wait_for_another() {
    let running = Running::start();
    let client = Arc::new(VerdictClient::new(&running.socket));
    let mut slow = JoinSet::new();
    for _ in 0..5 {
        let client = Arc::clone(&client);
        slow.spawn(async move { client.apply(&order("hang.example")).await });
        running.backend.started.notified().await;
    }
    assert_eq!(
        client.apply(&order("203.0.113.7")).await,
        VerdictReply::applied()
    );
    running.backend.release.notify_waiters();
    while let Some(reply) = slow.join_next().await {
        assert_eq!(reply.unwrap(), VerdictReply::applied());
    }
    assert_eq!(running.backend.max_in_progress.load(Ordering::SeqCst), 6);
    running.stop().await;
}

#[tokio::test]
async fn concurrent_orders_are_bounded() {
    let running = Running::start();
    let client = Arc::new(VerdictClient::new(&running.socket));
    let mut slow = JoinSet::new();
    for at in 0..40 {
        let client = Arc::clone(&client);
        slow.spawn(async move { client.apply(&order("hang.example")).await });
        if at < 16 {
            running.backend.started.notified().await;
        }
    }
    while !slow.is_empty() {
        running.backend.release.notify_waiters();
        if let Some(reply) = slow.try_join_next() {
            assert_eq!(reply.unwrap(), VerdictReply::applied());
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(running.backend.max_in_progress.load(Ordering::SeqCst), 16);
    running.stop().await;
}

#[tokio::test]
async fn a_restarted_helper_is_found() {
    let running = Running::start();
    let socket = running.socket.clone();
    let client = VerdictClient::new(&socket);
    assert_eq!(
        client.apply(&order("203.0.113.7")).await,
        VerdictReply::applied()
    );
    let dir = running.stop().await;
    let reply = client.apply(&order("203.0.113.7")).await;
    assert!(!reply.ok);
    assert!(
        reply
            .stderr
            .as_str()
            .starts_with("verdict helper unreachable: "),
        "{reply:?}"
    );
    let again = Running::at(dir, socket);
    assert_eq!(
        client.apply(&order("203.0.113.7")).await,
        VerdictReply::applied()
    );
    again.stop().await;
}

#[tokio::test]
async fn a_silent_helper_times_out() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("verdict.sock");
    let _mute = UnixListener::bind(&socket).unwrap();
    let client = VerdictClient::new(&socket).with_timeout(Duration::from_millis(200));
    let reply = client.apply(&order("203.0.113.7")).await;
    assert_eq!(
        reply,
        VerdictReply::failed("verdict helper unreachable: no answer within 0.2s")
    );
}

#[tokio::test]
async fn a_narrower_order_is_not_sent() {
    let running = Running::start();
    let client = VerdictClient::new(&running.socket);
    let scope = Scope {
        port: Some(443),
        ..Scope::until_removed("203.0.113.7".parse().unwrap())
    };
    let narrow = VerdictOrder::new("web".parse().unwrap(), Action::Allow, scope).unwrap();
    let reply = client.apply(&narrow).await;
    assert_eq!(
        reply,
        VerdictReply::failed("cannot enforce a narrower scope than the whole destination")
    );
    assert_eq!(running.backend.max_in_progress.load(Ordering::SeqCst), 0);
    running.stop().await;
}
