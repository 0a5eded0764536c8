// SPDX-License-Identifier: Apache-2.0
//! Reports a changed posture to the hub of a container.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use terok_clearance::DisplayText;
use terok_clearance::socket::{RuntimeDir, SocketLayout, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::shield_container::{FullContainerId, ShieldContainerName};
use crate::state_bundle::StateBundle;

/// The limit for the whole report: no hub delays a change of the firewall.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The limit for the file with the facts about a task.
const MAX_DOSSIER_BYTES: u64 = 64 * 1024;

/// Sends an event to the hub of a container, if one listens. Failures are logged only.
pub(crate) async fn report_posture(
    runtime: &RuntimeDir,
    bundle: &StateBundle,
    container: &ShieldContainerName,
    id: &FullContainerId,
    event: &'static str,
) {
    let socket = runtime
        .sandbox_sockets(id.as_container_id(), SocketLayout::D)
        .ingester;
    let line = event_line(event, container, read_dossier(&bundle.meta_path()));
    match timeout(REPORT_TIMEOUT, send_line(&socket, &line)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(event, error, "no hub was told"),
        Err(_) => tracing::debug!(event, "the hub did not close the connection in time"),
    }
}

async fn send_line(socket: &Path, line: &str) -> Result<(), String> {
    let (mut stream, _) = connect(socket).await.map_err(|error| error.to_string())?;
    let text = |error: std::io::Error| error.to_string();
    stream.write_all(line.as_bytes()).await.map_err(text)?;
    stream.shutdown().await.map_err(text)?;
    // A hub looks at the sender when it accepts the connection; the sender must live until then.
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.map_err(text)? > 0 {}
    Ok(())
}

fn event_line(event: &str, container: &ShieldContainerName, dossier: Map<String, Value>) -> String {
    let mut object = json!({
        "type": event,
        "container": DisplayText::new(container.as_str()).as_str(),
    });
    if !dossier.is_empty()
        && let Some(members) = object.as_object_mut()
    {
        members.insert("dossier".to_owned(), dossier.into());
    }
    format!("{object}\n")
}

/// Returns the facts of the file that the file at `meta_path` names; none if anything is amiss.
fn read_dossier(meta_path: &Path) -> Map<String, Value> {
    let read = |path: &Path| {
        let is_small = std::fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.len() <= MAX_DOSSIER_BYTES);
        is_small
            .then(|| std::fs::read_to_string(path).ok())
            .flatten()
    };
    let facts = read(meta_path)
        .and_then(|path| read(Path::new(path.trim())))
        .and_then(|text| serde_json::from_str(&text).ok());
    let Some(Value::Object(facts)) = facts else {
        return Map::new();
    };
    let texts = facts.into_iter().filter_map(|(key, value)| {
        let text = match value {
            Value::String(text) => text,
            Value::Null | Value::Bool(false) => return None,
            other => other.to_string(),
        };
        let key = DisplayText::new(&key).as_str().to_owned();
        (!text.is_empty()).then(|| (key, DisplayText::new(&text).as_str().into()))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use terok_clearance::socket::bind;

    use super::*;

    #[tokio::test]
    async fn the_hub_of_the_container_is_told() {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path());
        let facts = place.path().join("facts.json");
        std::fs::write(&facts, r#"{"task":"t\u0007","name":"","project":"p"}"#).unwrap();
        std::fs::write(bundle.meta_path(), format!("{}\n", facts.display())).unwrap();
        let runtime = RuntimeDir::new(place.path().join("run"));
        let id: FullContainerId = "0123456789abcdef".parse().unwrap();
        let name = "box".parse().unwrap();
        // Without a hub nothing happens.
        report_posture(&runtime, &bundle, &name, &id, "shield_up").await;
        let socket = place
            .path()
            .join("run/terok/events/0123456789ab/ingester.sock");
        // Makes the directories.
        drop(bind(&socket).unwrap());
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let received = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let ((), text) = tokio::join!(
            report_posture(&runtime, &bundle, &name, &id, "shield_down"),
            received
        );
        let line: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "type": "shield_down",
            "container": "box",
            "dossier": {"task": "t ", "project": "p"},
        });
        assert_eq!(line, expected);
        assert!(text.ends_with('\n'));
    }

    #[tokio::test]
    async fn a_hub_that_does_not_reply_delays_nothing_for_long() {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path());
        let socket = place.path().join("terok/events/0123456789ab/ingester.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let runtime = RuntimeDir::new(place.path());
        let id = "0123456789abcdef".parse().unwrap();
        let name = "box".parse().unwrap();
        let report = report_posture(&runtime, &bundle, &name, &id, "shield_up");
        timeout(Duration::from_secs(5), report).await.unwrap();
    }
}
