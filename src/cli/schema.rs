//! `vuh schema`: the JSON Schema of scenario files, for editors.

use super::exit::Exit;
use crate::report::Console;
use crate::scenario::scenario_schema;

pub(super) fn run(out: &mut Console) -> Exit {
    out.text(scenario_schema());
    Exit::Passed
}
