// SPDX-License-Identifier: Apache-2.0
//! The installed podman: its version, and the network of rootless containers.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;

use crate::program_runner::ProgramRunner;

const INFO_TIMEOUT: Duration = Duration::from_secs(10);

/// What `podman info` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanHost {
    /// The numbers of the version; `unknown` without podman.
    pub version: String,
    /// The network of rootless containers, `pasta` or `slirp4netns`.
    pub network_mode: String,
}

impl PodmanHost {
    /// Asks podman.
    pub(crate) async fn inspect(runner: &ProgramRunner) -> Self {
        let arguments = ["info", "-f", "json"].map(OsStr::new);
        let output = runner.run("podman", &arguments, None, INFO_TIMEOUT).await;
        let info = output
            .ok()
            .and_then(|output| serde_json::from_str(&output).ok());
        Self::from_info(&info.unwrap_or_default())
    }

    /// Returns the version of podman as it prints it; `None` without podman.
    pub async fn installed_version(runner: &ProgramRunner) -> Option<String> {
        let arguments = ["version", "--format", "{{.Client.Version}}"].map(OsStr::new);
        let output = runner
            .run("podman", &arguments, None, INFO_TIMEOUT)
            .await
            .ok()?;
        Some(output.trim().to_owned())
    }

    fn from_info(info: &Value) -> Self {
        let text = |pointer: &str| {
            info.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let version = numeric_version(text("/version/Version"));
        let network_mode = match text("/host/rootlessNetworkCmd") {
            named @ ("pasta" | "slirp4netns") => named,
            // Podman 4 does not say it; its default is slirp4netns.
            _ if !text("/host/slirp4netns/executable").is_empty() => "slirp4netns",
            _ => "pasta",
        };
        Self {
            version,
            network_mode: network_mode.to_owned(),
        }
    }
}

/// Returns the leading numbers of a version: `5.6.0` of `5.6.0-rc1`.
fn numeric_version(version: &str) -> String {
    let mut numbers: Vec<String> = Vec::new();
    for part in version.split('.') {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse::<u64>() {
            Ok(number) => numbers.push(number.to_string()),
            Err(_) => break,
        }
    }
    if numbers.is_empty() || numbers == ["0"] {
        return "unknown".to_owned();
    }
    numbers.join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_and_networks_are_read() {
        let check = |info: Value, version: &str, mode: &str| {
            let found = PodmanHost::from_info(&info);
            assert_eq!(
                (found.version.as_str(), found.network_mode.as_str()),
                (version, mode)
            );
        };
        check(Value::Null, "unknown", "pasta");
        check(
            json!({"version": {"Version": "5.6.0-rc1"}, "host": 3}),
            "5.6.0",
            "pasta",
        );
        check(
            json!({"version": {"Version": "4.3.1"}, "host": {"slirp4netns": {"executable": "/x"}}}),
            "4.3.1",
            "slirp4netns",
        );
        check(
            json!({"host": {"rootlessNetworkCmd": "pasta", "slirp4netns": {"executable": "/x"}}}),
            "unknown",
            "pasta",
        );
    }
}
