//! The link between a front-end and a back-end: sockets with file descriptors, framing, and the two sockets of a
//! connection, each of which ends at a simulated peer or at a real one. Knows headers, not what a message means.

pub mod signals;
mod stream;
mod wire_pair;

pub use stream::{Chunk, FDS_PER_MESSAGE_MAX, Frame, Incoming, MESSAGES_PER_TURN, PAYLOAD_MAX, Stream};
pub use wire_pair::{Cargo, End, Kept, Parcel, Socket, Transit};
