//! How the source asks the target. The network is the driver's.

/// The other side can't be asked any more: the resync ends, and begins anew when the core says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost(pub String);

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the other copy can't be asked: {}", self.0)
    }
}

impl std::error::Error for Lost {}

/// The longest question, answer or body.
pub const MESSAGE_MAX: usize = 1 << 20;

/// The other side.
pub trait Peer: Send + Sync {
    /// One more line to it. Up to `source::LINES` are open at once.
    ///
    /// # Errors
    /// `Lost`.
    fn line(&self) -> Result<Box<dyn Line>, Lost>;
}

/// One connection to `Target::answer`. Several questions may be on their way; answers come in the same order.
pub trait Line: Send {
    /// Sends a question of at most `MESSAGE_MAX` bytes.
    ///
    /// # Errors
    /// `Lost`.
    fn send(&mut self, question: &[u8]) -> Result<(), Lost>;

    /// Waits for the answer to the oldest question without one.
    ///
    /// # Errors
    /// `Lost`, also when the other side is silent for too long.
    fn answer(&mut self) -> Result<Vec<u8>, Lost>;
}
