//! Why a reference peer ends early. One line each: the whole text goes to stderr.

use std::io;
use std::path::PathBuf;

/// Why a reference peer ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The options contradict each other or ask for what the rust-vmm crates cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The refusal.
        source: io::Error,
    },
    /// The disk image cannot be used.
    #[error("image {}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The `vhost-user-backend` daemon gave up on the connection.
    #[error("front-end: {0}")]
    Daemon(String),
    /// The front-end's ring or a request in it is broken.
    #[error("front-end: {0}")]
    Ring(Fault),
    /// A request to the back-end failed.
    #[error("{request}: {reason}")]
    Request {
        /// The request by its name in the specification.
        request: &'static str,
        /// What the `vhost` crate said.
        reason: String,
    },
    /// The back-end did not answer a request in time.
    #[error("{request}: no answer within {timeout_ms} ms")]
    NoAnswer {
        /// The request by its name in the specification.
        request: &'static str,
        /// The deadline.
        timeout_ms: u64,
    },
    /// Nobody connected, or nobody listened, in time.
    #[error("no connection within {timeout_ms} ms")]
    NoConnection {
        /// The deadline.
        timeout_ms: u64,
    },
    /// The back-end closed the connection while requests were under way.
    #[error("the back-end disconnected with {completed} of {requests} requests complete")]
    Disconnected {
        /// Requests complete by then.
        completed: u64,
        /// Requests wanted.
        requests: u64,
    },
    /// No buffer was used in time.
    #[error("no completion within {timeout_ms} ms, {completed} of {requests} requests complete")]
    NoCompletion {
        /// The deadline.
        timeout_ms: u64,
        /// Requests complete by then.
        completed: u64,
        /// Requests wanted.
        requests: u64,
    },
    /// Buffers were used, the driver had asked for a call, and none came.
    #[error("ring {ring}: a buffer was used but no call came within {timeout_ms} ms")]
    NoCall {
        /// The ring.
        ring: usize,
        /// The deadline.
        timeout_ms: u64,
    },
    /// The back-end lacks something this front-end cannot do without.
    #[error("the back-end offers {0}")]
    Lacking(String),
    /// The back-end broke a rule of the ring.
    #[error("ring {ring}: {what}")]
    BadRing {
        /// The ring.
        ring: usize,
        /// The rule and the facts.
        what: String,
    },
    /// A request was completed, but not as it should have been.
    #[error("request {request}: {what}")]
    Differs {
        /// The request's number, from 0.
        request: u64,
        /// Expected and actual.
        what: String,
    },
}

impl ReferenceError {
    /// For `map_err`: the system refused `what`.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// What is wrong with a ring, or with a request in it, that the front-end gave to the back-end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The ring itself cannot be processed.
    #[error("ring {ring}: {source}")]
    Ring {
        /// The ring.
        ring: usize,
        /// What `virtio-queue` said.
        source: virtio_queue::Error,
    },
    /// A chain refers to memory that the front-end did not share, or is longer than it may be.
    #[error("ring {ring}, chain {head}: {what}")]
    Chain {
        /// The ring.
        ring: usize,
        /// The chain's first descriptor.
        head: u16,
        /// The rule and the facts.
        what: String,
    },
    /// A question on the back-end channel was refused, or could not be asked.
    #[error("ring {ring}: back-end channel: {source}")]
    Question {
        /// The ring.
        ring: usize,
        /// The refusal.
        source: io::Error,
    },
    /// The call eventfd cannot be written, or another event cannot be used.
    #[error("ring {ring}: call: {source}")]
    Call {
        /// The ring.
        ring: usize,
        /// The refusal.
        source: io::Error,
    },
}
