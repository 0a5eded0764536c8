// SPDX-License-Identifier: Apache-2.0
//! Where the context for operators comes from.

use std::fmt;
use std::sync::Arc;

use terok_clearance::Dossier;

/// Returns the context for operators, for each event that has one: an orchestrator may change it
/// while its container runs.
#[derive(Clone)]
pub struct DossierSource(Arc<dyn Fn() -> Dossier + Send + Sync>);

impl DossierSource {
    /// Calls `read` for each event, in the thread of the supervisor: it must not block for longer
    /// than the reading of a small file. An unchanged dossier shares its memory best.
    pub fn new(read: impl Fn() -> Dossier + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Returns the present dossier.
    pub fn read(&self) -> Dossier {
        (self.0)()
    }
}

impl From<Dossier> for DossierSource {
    /// Returns a dossier that never changes.
    fn from(dossier: Dossier) -> Self {
        Self::new(move || Arc::clone(&dossier))
    }
}

impl Default for DossierSource {
    fn default() -> Self {
        Dossier::default().into()
    }
}

impl fmt::Debug for DossierSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DossierSource").field(&self.read()).finish()
    }
}
