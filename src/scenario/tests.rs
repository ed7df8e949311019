//! Tests of the whole room: goldens for what is wrong, plans for what is right, and texts from nowhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

const GOLDENS: &str = "tests/bad-scenarios";

/// A person who gets an error sees another text than the one that was agreed on.
#[test]
fn bad_scenarios_print_what_their_goldens_say() {
    let bless = std::env::var_os("VUH_BLESS").is_some();
    let mut files: Vec<PathBuf> = std::fs::read_dir(GOLDENS)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 40, "the folder lost its files");
    let mut differ = Vec::new();
    for file in files {
        let printed = match load_file(&file, &Settings::default()) {
            Ok(_) => panic!("{} is accepted", file.display()),
            Err(errors) => errors.render(RenderStyle::Plain),
        };
        for word in ["variant", "struct ", "enum ", "newtype", "deserialize", "Option<"] {
            assert!(!printed.contains(word), "{} speaks of Rust: {printed}", file.display());
        }
        let golden = file.with_extension("stderr");
        if bless {
            std::fs::write(&golden, &printed).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != printed {
            differ.push(format!("{}\n{printed}", file.display()));
        }
    }
    assert!(differ.is_empty(), "VUH_BLESS=1 rewrites the goldens:\n{}", differ.join("\n"));
}
