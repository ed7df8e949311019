//! The reference peers: a back-end and a front-end on the rust-vmm crates, run as processes of their own by the hidden
//! verb `vuh reference-peer`. They are real, independent peers that need nothing installed, and they use neither the
//! harness's codec nor its rings, so that they can contradict them. They never judge the other peer.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub mod args;
pub mod backend;
mod blk;
mod channel;
mod device;
mod disk;
mod driver_ring;
mod error;
pub mod frontend;
mod generic;
mod guest;
mod load;
mod load_blk;
mod load_generic;
mod load_net;
mod net;
mod session;
#[cfg(test)]
mod tests;
mod watchdog;

pub use args::{BackendArgs, FrontendArgs, ReferenceArgs, Role};
pub use error::{Fault, ReferenceError};

/// Runs the reference peer that `args` describes until its work or its connection ends.
///
/// # Errors
/// The other peer broke the protocol, did not answer in time or answered wrongly, or the system refused something.
pub fn main(args: ReferenceArgs) -> Result<(), ReferenceError> {
    match args.role {
        Role::Backend(args) => backend::Backend::new(&args)?.run(),
        Role::Frontend(args) => {
            let report = frontend::drive(&args)?;
            let line = serde_json::to_string(&report)
                .map_err(|error| ReferenceError::system("stdout")(std::io::Error::other(error.to_string())))?;
            writeln!(std::io::stdout(), "{line}").map_err(ReferenceError::system("stdout"))
        }
    }
}

/// [`main`] for a raw command line (without the words `vuh reference-peer`): 0, 1 and one line on stderr, or 2 for wrong use.
pub fn run(args: &[String]) -> ExitCode {
    let words = std::iter::once("reference-peer").chain(args.iter().map(String::as_str));
    let args = match ReferenceArgs::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match main(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference-peer: {error}");
            ExitCode::FAILURE
        }
    }
}
