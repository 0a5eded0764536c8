// SPDX-License-Identifier: Apache-2.0
//! Tests of the search for the resolvers of a process with a root directory of its own.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use netns::ProcessHandle;
use supervisor::{ResolverRefusal, SandboxResolversError, find_sandbox_resolvers};
use tempfile::TempDir;
use test_support::namespaces::{NamespaceHolder, require_private_namespaces};

struct Container {
    root: TempDir,
    holder: NamespaceHolder,
}

impl Container {
    fn start() -> Self {
        require_private_namespaces();
        let root = TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let code = "import os, sys; os.chroot(sys.argv[1]); print('ready', flush=True); \
                    sys.stdin.read()";
        let path = root.path().display();
        let script = format!("exec python3 -c \"{code}\" {path}");
        let holder = NamespaceHolder::start_script(&[], &script);
        Self { root, holder }
    }

    fn process(&self) -> ProcessHandle {
        ProcessHandle::open(self.holder.pid()).unwrap()
    }
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn the_file_of_the_process_counts_and_no_link_leads_outside() {
    let container = Container::start();
    let path = container.root.path().join("etc/resolv.conf");
    let find = |host_files: &[&Path]| find_sandbox_resolvers(&container.process(), host_files);
    let check_missing = |what: &str| match find(&[]) {
        Err(SandboxResolversError::Read(error)) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{what}");
        }
        other => panic!("{what}: {other:?}"),
    };
    check_missing("no file");

    // The host's file, by its path from outside and by the number of parent directories.
    let host = TempDir::new().unwrap();
    let host_file = host.path().join("resolv.conf");
    std::fs::write(&host_file, "nameserver 10.1.1.1\nnameserver 203.0.113.53\n").unwrap();
    let up = format!("../../../../../../..{}", host_file.display());
    for target in [host_file.to_str().unwrap(), &up] {
        symlink(target, &path).unwrap();
        check_missing(target);
        std::fs::remove_file(&path).unwrap();
    }

    std::fs::write(container.root.path().join("real"), "nameserver 10.0.2.3\n").unwrap();
    symlink("/real", &path).unwrap();
    assert_eq!(find(&[]).unwrap().usable, addresses(&["10.0.2.3"]));
    std::fs::remove_file(&path).unwrap();

    let text = "nameserver 203.0.113.53\nnameserver 203.0.113.66\nnameserver 127.0.0.11\n";
    std::fs::write(&path, text).unwrap();
    let found = find(&[&host_file, Path::new("/nonexistent")]).unwrap();
    assert_eq!(found.usable, addresses(&["203.0.113.53"]));
    let refused: Vec<_> = found.refused.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(
        refused,
        [ResolverRefusal::Stranger, ResolverRefusal::Inside]
    );
    assert!(find(&[]).unwrap().usable.is_empty());
}
