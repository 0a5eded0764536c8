// SPDX-License-Identifier: Apache-2.0
//! A fake hub for tests without a runtime.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use serde_json::Value;
use terok_clearance::socket::bind;
use terok_clearance::varlink::{VarlinkInterface, serve};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::fake_hub::{CallReply, FakeHub};

/// A [`FakeHub`] with a script, served by a thread of its own until this is dropped.
#[derive(Debug)]
pub struct HubThread {
    /// The calls that came: the last part of the method's name, and the parameters.
    pub calls: mpsc::Receiver<(String, Value)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HubThread {
    /// Serves a hub at a path. The hub takes connections when this returns.
    pub fn start(
        path: &Path,
        interfaces: &'static [VarlinkInterface],
        script: impl Fn(&str, &Value) -> CallReply + Send + Sync + 'static,
    ) -> Self {
        let (record, calls) = mpsc::channel();
        let hub = FakeHub::silent(interfaces).with_script(move |method, parameters| {
            // A test need not look at the calls.
            drop(record.send((method.to_owned(), parameters.clone())));
            script(method, parameters)
        });
        let path = path.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (announce, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let serving = serve(
                    bind(&path).unwrap(),
                    Arc::new(hub),
                    CancellationToken::new(),
                );
                announce.send(()).unwrap();
                tokio::select! {
                    ended = serving => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        ready.recv().expect("the hub starts");
        Self {
            calls,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for HubThread {
    fn drop(&mut self) {
        self.stop = None;
        let served = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(served, Some(Ok(()))),
            "the hub panicked"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use serde_json::json;

    use super::*;
    use crate::fake_hub::CLEARANCE2_ONLY;

    #[test]
    fn a_script_replies_to_each_call_and_the_calls_are_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        let hub = HubThread::start(&path, CLEARANCE2_ONLY, |method, parameters| match method {
            "History" => CallReply::parameters(parameters),
            _ => CallReply::Disconnected,
        });
        let mut stream = UnixStream::connect(&path).unwrap();
        let history = r#"{"method":"org.terok.Clearance2.History","parameters":{"limit":3}}"#;
        stream.write_all(format!("{history}\0").as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut reply = Vec::new();
        stream.read_until(0, &mut reply).unwrap();
        assert_eq!(reply, b"{\"parameters\":{\"limit\":3}}\0");
        let list = b"{\"method\":\"org.terok.Clearance2.List\"}\0";
        stream.get_mut().write_all(list).unwrap();
        assert_eq!(stream.read_to_end(&mut reply).unwrap(), 0);
        let calls: Vec<_> = hub.calls.try_iter().collect();
        let expected = [("History", json!({"limit": 3})), ("List", json!({}))];
        assert_eq!(calls, expected.map(|(name, json)| (name.to_owned(), json)));
        drop(hub);
        assert!(UnixStream::connect(&path).is_err());
    }
}
