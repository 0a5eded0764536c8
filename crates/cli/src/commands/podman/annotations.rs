// SPDX-License-Identifier: Apache-2.0
//! `podman annotations`: what other ways to start a container need for a guard.

use clap::ValueEnum;
use containers::podman_command::{GuardAnnotation, annotations};
use runner::PublishSpec;
use serde_json::{Map, json};
use shield_cli::quote_for_shell;

use super::guard_args::GuardArgs;
use crate::{CommandContext, CommandError, CommandStatus};

pub(super) const AFTER_HELP: &str = "\
Examples:
  podman run $(terok-clearance podman annotations --profile npm) --rm -it node
  terok-clearance podman annotations --form quadlet --allow db.example:5432/tcp
  terok-clearance podman annotations --form compose --publish 8080:80

Containers that are started this way are guarded if the hooks are in force, which only
`terok-clearance podman run` and `terok-clearance doctor` prove. Without the hooks they have no
network. Ports are published by the supervisor: leave podman's own option out.

The annotation is signed with your key, in the state directory of this program: it counts for your
containers on this machine alone. It holds until the key is removed.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub(super) struct AnnotationsArgs {
    #[command(flatten)]
    guard: GuardArgs,
    /// Name of the container in questions [default: podman's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Publish a port of the container on this machine: [ADDR:]HOST:PORT, with /udp for UDP;
    /// repeat for more
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<PublishSpec>,
    /// What to print: arguments of podman, lines of a quadlet file, or keys of a compose service
    #[arg(long, value_enum, default_value_t = AnnotationForm::Arguments, value_name = "FORM")]
    form: AnnotationForm,
}

/// The values of `--form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AnnotationForm {
    /// Arguments of `podman run`.
    Arguments,
    /// Lines of the section `[Container]`, podman-systemd.unit(5).
    Quadlet,
    /// Keys of a service in a compose file.
    Compose,
}

/// Runs the command.
pub(super) fn perform(
    args: AnnotationsArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let policy = args
        .guard
        .sign(args.name.as_deref(), args.publish, context)?;
    let annotations = annotations(policy.network, &policy.value, true);
    let text = if context.json {
        json_form(&annotations)
    } else {
        match args.form {
            AnnotationForm::Arguments => argument_form(&annotations),
            AnnotationForm::Quadlet => quadlet_form(&annotations),
            AnnotationForm::Compose => compose_form(&annotations),
        }
    };
    context.output.print_line(&text)?;
    Ok(CommandStatus::OK)
}

fn argument_form(annotations: &[GuardAnnotation]) -> String {
    let mut words = vec![
        "--network".to_owned(),
        "none".to_owned(),
        "--cap-drop".to_owned(),
        "net_raw,net_admin".to_owned(),
    ];
    for annotation in annotations {
        words.push("--annotation".to_owned());
        words.push(quote_for_shell(&annotation.text));
    }
    words.join(" ")
}

fn quadlet_form(annotations: &[GuardAnnotation]) -> String {
    let mut lines = vec![
        "Network=none".to_owned(),
        "DropCapability=NET_RAW NET_ADMIN".to_owned(),
    ];
    let texts = annotations.iter();
    lines.extend(texts.map(|annotation| format!("Annotation={}", annotation.text)));
    lines.join("\n")
}

fn compose_form(annotations: &[GuardAnnotation]) -> String {
    let mut lines = vec![
        "network_mode: none".to_owned(),
        "cap_drop: [NET_RAW, NET_ADMIN]".to_owned(),
        "annotations:".to_owned(),
    ];
    for annotation in annotations {
        let (key, value) = annotation.text.split_once('=').unwrap_or_default();
        lines.push(format!("  {key}: {}", json!(value)));
    }
    lines.join("\n")
}

fn json_form(annotations: &[GuardAnnotation]) -> String {
    let entries = annotations.iter().filter_map(|annotation| {
        let (key, value) = annotation.text.split_once('=')?;
        Some((key.to_owned(), value.into()))
    });
    json!({
        "network": "none",
        "cap_drop": ["NET_RAW", "NET_ADMIN"],
        "annotations": entries.collect::<Map<_, _>>(),
    })
    .to_string()
}
