// SPDX-License-Identifier: Apache-2.0
//! Podman on a machine, with an image of busybox.

use std::process::{Command, Output};

use super::machine::{Account, Machine, told};

/// The address of `one.test`, which has a web server.
pub(crate) const SERVER: &str = "198.51.100.40";

/// A container engine with a runtime, of a user.
#[derive(Clone, Copy)]
pub(crate) struct Podman<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) account: Account,
    pub(crate) runtime: &'static str,
}

/// Settings for kernels whose cgroups have no controllers, and for root without all capabilities.
/// They are not in the file that the program changes.
const SETTINGS: &str = "[containers]\npids_limit = 0\n\
    default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";

impl<'a> Podman<'a> {
    /// Imports the image for a user.
    pub(crate) fn new(machine: &'a Machine, account: Account, runtime: &'static str) -> Self {
        let directory = machine.path("/etc/containers/containers.conf.d");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("machine.conf"), SETTINGS).unwrap();
        let podman = Self {
            machine,
            account,
            runtime,
        };
        machine.done(
            account,
            "mkdir -p /tmp/image-$USER/bin /tmp/image-$USER/etc && cd /tmp/image-$USER && \
             cp /bin/busybox bin && \
             for applet in sh wget nc cat id ip sleep; do ln -s busybox bin/$applet; done && \
             tar -cf - . | podman import --quiet - bb:latest",
        );
        podman
    }

    /// Returns the same container engine with another runtime.
    pub(crate) const fn with(self, runtime: &'static str) -> Self {
        Self { runtime, ..self }
    }

    /// Returns `podman WORDS`, which a shell reads.
    pub(crate) fn command(&self, words: &str) -> Command {
        let script = format!("exec podman --runtime {} {words}", self.runtime);
        self.machine.command(self.account, &script)
    }

    /// Runs `podman WORDS`.
    pub(crate) fn does(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs `podman WORDS`, which succeeds; returns the output.
    pub(crate) fn done(&self, words: &str) -> String {
        let output = self.does(words);
        assert!(output.status.success(), "podman {words}\n{}", told(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Fetches a page of the server in a container: one `connect()` and one request.
pub(crate) fn fetch(page: &str) -> String {
    format!("wget -q -O - http://{SERVER}/{page}")
}
