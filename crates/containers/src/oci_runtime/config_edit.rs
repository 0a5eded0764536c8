// SPDX-License-Identifier: Apache-2.0
//! Adds the hooks to a container's configuration (OCI runtime specification, `config.json`). Pure.

use serde_json::{Map, Value, json};

use crate::annotation_keys;
use crate::oci_config::{OciConfig, UnguardableContainer};
use crate::start_request::{ContainerNetwork, ContainerNetworkError};

/// The hooks of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigHooks {
    program: String,
}

/// A configuration cannot be edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigEditError {
    /// The text is no JSON, or has another form.
    #[error("its configuration is not understood: {0}")]
    Form(#[from] serde_json::Error),
    /// A part has another form.
    #[error("its configuration is not understood: {0} has an unexpected form")]
    Part(&'static str),
    /// The annotation has an unknown value.
    #[error(transparent)]
    Network(#[from] ContainerNetworkError),
    /// The container cannot be guarded.
    #[error(transparent)]
    Unguardable(#[from] UnguardableContainer),
}

/// Capabilities with which a process goes around the firewall of its network namespace.
const DROPPED_CAPABILITIES: [&str; 2] = ["CAP_NET_RAW", "CAP_NET_ADMIN"];

/// The stages of the hooks.
const STAGES: [&str; 2] = ["createRuntime", "poststop"];

impl ConfigHooks {
    /// Returns the hooks that call `program`.
    pub fn of_program(program: &str) -> Self {
        Self {
            program: program.to_owned(),
        }
    }

    fn hook(&self, stage: &str) -> Value {
        json!({
            "path": self.program,
            "args": [self.program, "hook", stage],
        })
    }
}

/// Returns the configuration with hooks and annotation, and without the capabilities that defeat
/// the guard; `None` for a container that does not ask for a guard. Everything else stays.
pub fn edit_config(
    json: &[u8],
    network: Option<ContainerNetwork>,
    hooks: &ConfigHooks,
) -> Result<Option<Vec<u8>>, ConfigEditError> {
    let mut config: Map<String, Value> = serde_json::from_slice(json)?;
    let annotations = object_of(&mut config, "annotations")?;
    let asked = match annotations.get(annotation_keys::NETWORK) {
        None => None,
        Some(Value::String(value)) => Some(ContainerNetwork::parse(value)?),
        Some(_) => return Err(ConfigEditError::Part("annotations")),
    };
    // What the daemon's configuration says comes before what a container asks for.
    let Some(network) = network.or(asked) else {
        return Ok(None);
    };
    let value = Value::from(network.as_str());
    annotations.insert(annotation_keys::NETWORK.to_owned(), value);
    let all_hooks = object_of(&mut config, "hooks")?;
    for stage in STAGES {
        let list = all_hooks.entry(stage).or_insert(Value::Null);
        if list.is_null() {
            *list = Value::Array(Vec::new());
        }
        let list = list.as_array_mut().ok_or(ConfigEditError::Part("hooks"))?;
        let hook = hooks.hook(stage);
        if !list.contains(&hook) {
            list.push(hook);
        }
    }
    drop_capabilities(&mut config)?;
    let edited = serde_json::to_vec(&config)?;
    OciConfig::parse(&edited)?.check_guardable()?;
    Ok(Some(edited))
}

/// Returns the object `name`, which is created if it is missing or null.
fn object_of<'a>(
    config: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Map<String, Value>, ConfigEditError> {
    let value = config.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or(ConfigEditError::Part(name))
}

fn drop_capabilities(config: &mut Map<String, Value>) -> Result<(), ConfigEditError> {
    let sets = config
        .get_mut("process")
        .and_then(|process| process.get_mut("capabilities"));
    let Some(sets) = sets.filter(|sets| !sets.is_null()) else {
        return Ok(());
    };
    let unexpected = || ConfigEditError::Part("process.capabilities");
    let sets = sets.as_object_mut().ok_or_else(unexpected)?;
    for set in sets.values_mut().filter(|set| !set.is_null()) {
        let set = set.as_array_mut().ok_or_else(unexpected)?;
        set.retain(|capability| {
            let name = capability.as_str().unwrap_or_default();
            let is_dropped = |dropped: &&str| dropped.eq_ignore_ascii_case(name);
            !DROPPED_CAPABILITIES.iter().any(is_dropped)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edit(config: &Value, network: Option<ContainerNetwork>) -> Option<Value> {
        let hooks = ConfigHooks::of_program("/p");
        let edited = edit_config(config.to_string().as_bytes(), network, &hooks).unwrap();
        edited.map(|edited| serde_json::from_slice(&edited).unwrap())
    }

    fn sample() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "capabilities": {
                    "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_NET_ADMIN"],
                    "permitted": ["CAP_NET_RAW"],
                    "ambient": null,
                },
                "rlimits": [{"type": "RLIMIT_CORE", "hard": 18_446_744_073_709_551_615_u64}],
            },
            "hooks": {"prestart": [{"path": "/x"}], "createRuntime": [{"path": "/y"}]},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
        })
    }

    #[test]
    fn a_guarded_container_has_hooks_and_annotation_and_lacks_two_capabilities() {
        let mut expected = sample();
        expected["annotations"] = json!({"org.terok.clearance.network": "filtered"});
        expected["process"]["capabilities"] =
            json!({"bounding": ["CAP_CHOWN"], "permitted": [], "ambient": null});
        let hook = |stage| json!({"path": "/p", "args": ["/p", "hook", stage]});
        expected["hooks"]["createRuntime"] = json!([{"path": "/y"}, hook("createRuntime")]);
        expected["hooks"]["poststop"] = json!([hook("poststop")]);
        let edited = edit(&sample(), Some(ContainerNetwork::Filtered)).unwrap();
        assert_eq!(edited, expected);
        assert_eq!(edit(&edited, None), Some(expected));
    }

    #[test]
    fn only_containers_that_ask_are_changed() {
        assert_eq!(edit(&sample(), None), None);
        let mut asks = sample();
        asks["annotations"] = json!({"org.terok.clearance.network": "dialed", "a": "b"});
        let edited = edit(&asks, None).unwrap();
        assert_eq!(edited["annotations"], asks["annotations"]);
        // The daemon's configuration decides.
        let edited = edit(&asks, Some(ContainerNetwork::Filtered)).unwrap();
        assert_eq!(
            edited["annotations"]["org.terok.clearance.network"],
            "filtered"
        );
    }

    #[test]
    fn what_cannot_be_guarded_is_an_error() {
        let check = |config: &str, expected: &str| {
            let hooks = ConfigHooks::of_program("/p");
            let network = Some(ContainerNetwork::Dialed);
            let error = edit_config(config.as_bytes(), network, &hooks).unwrap_err();
            assert!(error.to_string().contains(expected), "{config}: {error}");
        };
        check("", "not understood");
        check("[]", "not understood");
        check("{}", "network of the host");
        check(r#"{"hooks": []}"#, "hooks has");
        check(r#"{"annotations": "x"}"#, "annotations has");
        check(r#"{"hooks": {"poststop": {}}}"#, "hooks has");
        check(
            r#"{"process": {"capabilities": []}}"#,
            "process.capabilities has",
        );
        let hooks = ConfigHooks::of_program("/p");
        let json = br#"{"annotations": {"org.terok.clearance.network": "open"}}"#;
        assert!(matches!(
            edit_config(json, None, &hooks),
            Err(ConfigEditError::Network(_))
        ));
    }

    proptest! {
        #[test]
        fn nothing_else_is_removed(
            key in "[a-z]{1,8}",
            value in ".{0,20}",
            capabilities in prop::collection::vec("CAP_[A-Z_]{1,12}", 0..5),
        ) {
            let mut config = sample();
            config["annotations"] = json!({ key.as_str(): value.as_str() });
            config["process"]["capabilities"]["bounding"] = json!(capabilities);
            config["mounts"] = json!([{"destination": "/x", "source": value}]);
            let edited = edit(&config, Some(ContainerNetwork::Dialed)).unwrap();
            prop_assert_eq!(&edited["annotations"][&key], &config["annotations"][&key]);
            prop_assert_eq!(&edited["mounts"], &config["mounts"]);
            prop_assert_eq!(&edited["process"]["rlimits"], &config["process"]["rlimits"]);
            prop_assert_eq!(&edited["hooks"]["prestart"], &config["hooks"]["prestart"]);
            let kept: Vec<_> = capabilities
                .into_iter()
                .filter(|name| !DROPPED_CAPABILITIES.contains(&name.as_str()))
                .collect();
            prop_assert_eq!(&edited["process"]["capabilities"]["bounding"], &json!(kept));
        }

        #[test]
        fn hostile_configurations_do_not_panic(json in ".{0,200}") {
            let hooks = ConfigHooks::of_program("/p");
            drop(edit_config(json.as_bytes(), Some(ContainerNetwork::Dialed), &hooks));
        }
    }
}
