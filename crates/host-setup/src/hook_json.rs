// SPDX-License-Identifier: Apache-2.0
//! The OCI hook files, oci-hooks(5).
//!
//! A file with a mistake stops every container of the host, so that the text is made by a JSON
//! writer and never by hand.

use containers::annotation_keys::NETWORK;
use containers::host_layout::HOOK_FILES;
use serde_json::json;

/// After this time the runtime ends a hook, and the container does not start.
const TIMEOUT_SECONDS: u32 = 30;

/// The stages, in the order of [`HOOK_FILES`].
const STAGES: [&str; 2] = ["createRuntime", "poststop"];

/// Returns the names and texts of the hook files.
///
/// `program` is the absolute path of the program, as text because JSON has no other paths. A hook
/// that runs after the container gets no environment of the user: `runtime_dir` is then its only
/// way to the supervisors.
pub fn hook_files(program: &str, runtime_dir: Option<&str>) -> [(&'static str, String); 2] {
    let [create, stop] = HOOK_FILES;
    let [create_stage, stop_stage] = STAGES;
    [
        (create, render_hook(program, create_stage, None)),
        (stop, render_hook(program, stop_stage, runtime_dir)),
    ]
}

fn render_hook(program: &str, stage: &str, runtime_dir: Option<&str>) -> String {
    let mut hook = json!({
        "path": program,
        "args": ["terok-clearance", "hook", stage],
        "timeout": TIMEOUT_SECONDS,
    });
    if let (Some(directory), Some(hook)) = (runtime_dir, hook.as_object_mut()) {
        let variable = format!("XDG_RUNTIME_DIR={directory}");
        hook.insert("env".to_owned(), json!([variable]));
    }
    // Keys and values are regular expressions that may match a part.
    let key = format!("^{}$", NETWORK.replace('.', "\\."));
    let file = json!({
        "version": "1.0.0",
        "hook": hook,
        "when": { "annotations": { key: ".*" } },
        "stages": [stage],
    });
    format!("{file:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_hook_names_the_program_the_stage_and_the_annotation() {
        let files = hook_files("/opt/a \"b\"/terok-clearance", Some("/run/user/1000"));
        for ((name, text), stage) in files.iter().zip(STAGES) {
            assert!(name.contains(stage), "{name}");
            let file: Value = serde_json::from_str(text).unwrap();
            assert_eq!(file["hook"]["path"], "/opt/a \"b\"/terok-clearance");
            assert_eq!(
                file["hook"]["args"],
                json!(["terok-clearance", "hook", stage])
            );
            assert_eq!(file["stages"], json!([stage]));
            let annotations = file["when"]["annotations"].as_object().unwrap();
            let expected = (
                "^org\\.terok\\.clearance\\.network$".to_owned(),
                json!(".*"),
            );
            assert_eq!(
                annotations.clone().into_iter().collect::<Vec<_>>(),
                [expected]
            );
        }
        let of_stop: Value = serde_json::from_str(&files[1].1).unwrap();
        assert_eq!(
            of_stop["hook"]["env"],
            json!(["XDG_RUNTIME_DIR=/run/user/1000"])
        );
        assert!(!files[0].1.contains("env"));
    }
}
