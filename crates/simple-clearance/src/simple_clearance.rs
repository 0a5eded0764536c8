// SPDX-License-Identifier: Apache-2.0
//! The command from the check for a hub to the restart of the hook's reader.

use terok_clearance::error_chain;

use crate::container::ShieldContainer;
use crate::firewall::ContainerFirewall;
use crate::hub_check::ensure_no_hub;
use crate::question_loop::run_question_loop;
use crate::reader_process::ReaderProcess;
use crate::takeover::HookReader;
use crate::{QuestionOutput, SimpleClearanceConfig, SimpleClearanceError};

/// A container whose questions can be asked.
#[derive(Debug)]
pub struct SimpleClearance {
    config: SimpleClearanceConfig,
    container: ShieldContainer,
}

impl SimpleClearance {
    /// Finds the container and its state directory. Runs podman, and waits for its end.
    pub fn find(config: SimpleClearanceConfig) -> Result<Self, SimpleClearanceError> {
        let container = ShieldContainer::find(&config)?;
        Ok(Self { config, container })
    }

    /// Asks about each refused packet, and applies the answers, until the end of input, the end of
    /// the reader, or a signal: `next_stop` waits for the next one.
    ///
    /// Must be called within a tokio runtime.
    pub async fn run(
        self,
        output: &dyn QuestionOutput,
        next_stop: impl AsyncFnMut(),
    ) -> Result<(), SimpleClearanceError> {
        let Self { config, container } = self;
        ensure_no_hub(&container, &config).await?;
        let firewall = ContainerFirewall::detect(&container, &config, output)?;
        let stopped_hook = match HookReader::find(&container) {
            Some(reader) if config.take_over => Some(reader.terminate().await?),
            Some(reader) => {
                return Err(SimpleClearanceError::HookReaderRuns {
                    container: container.name().clone(),
                    reader: reader.to_string(),
                });
            }
            None => None,
        };
        let ended = match ReaderProcess::start(&container, &config) {
            Ok(reader) => {
                let json = config.json;
                run_question_loop(&container, reader, firewall, next_stop, output, json).await
            }
            Err(error) => Err(error),
        };
        let name = container.name();
        if stopped_hook.is_none() && ended.is_ok() && !config.json {
            output.print_note(&format!("no reader listens to {name} any more"));
        }
        if let Some(hook) = stopped_hook {
            match hook.restart() {
                Ok(pid) => output.print_note(&format!(
                    "the hook's reader listens to {name} again: process {pid}"
                )),
                Err(error) => output.print_note(&format!(
                    "warning: no reader listens to {name} now, until it is started again: {}",
                    error_chain(&error)
                )),
            }
        }
        ended
    }
}
