//! The secondary's copies: what comes over the wire, carried out.

use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::codec;
use mirrorfs_net::client::Outcome;
use mirrorfs_net::server::Carry;
use rustix::io::Errno;

use crate::log;

/// All replicated directories of a mirror, in the configuration's order.
pub struct Copies(pub Vec<Applier>);

impl Carry for Copies {
    fn carry(&self, tree: u16, payload: &[u8]) -> Outcome {
        let Some(applier) = self.0.get(usize::from(tree)) else {
            log::error("operation for a directory that is not configured", &[("directory", &tree)]);
            return Outcome::Failed;
        };
        let op = match codec::decode(payload) {
            Ok(op) => op,
            Err(malformed) => {
                log::error("operation refused", &[("reason", &malformed)]);
                return Outcome::Failed;
            }
        };
        match applier.apply(&op) {
            Ok(()) => Outcome::Done,
            // An inode that is not here, or a disk that fails: this copy is not what the primary takes it for.
            Err(errno @ (Errno::STALE | Errno::IO)) => {
                log::error("operation failed", &[("operation", &op.kind()), ("reason", &errno)]);
                Outcome::Failed
            }
            Err(errno) => Outcome::Refused(errno.raw_os_error()),
        }
    }
}

impl Copies {
    /// Sets all times that still wait.
    ///
    /// # Errors
    /// What setting one says.
    pub fn settle(&self) -> Result<(), Errno> {
        self.0.iter().try_for_each(|applier| applier.tree().settle_all())
    }
}
