//! The page that maps the items of the proposal to scenarios, against the scenarios.

use std::fs;
use std::path::Path;

const ITEMS: usize = 52;

/// Broken: the page names a scenario or a page that does not exist, leaves an item out, or says nothing of one.
#[test]
fn the_page_covers_every_item_with_scenarios_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/vhost-pci.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| is_item(line)).collect();
    let numbers: Vec<usize> = rows.iter().map(|row| number(row)).collect();
    assert_eq!(
        numbers,
        (1..=ITEMS).collect::<Vec<_>>(),
        "the items, each once, in order"
    );
    let mut named = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, item, how, what, _] = cells[..] else {
            panic!("four cells: {row}")
        };
        assert!(!item.is_empty() && !what.is_empty(), "{row}");
        let names: Vec<&str> = what.split('`').skip(1).step_by(2).collect();
        assert!(
            how == "doc" || !names.is_empty(),
            "what is not only described has a scenario or a test: {row}"
        );
        for name in names {
            named += 1;
            assert!(exists(root, name), "there is no `{name}`: {row}");
        }
    }
    assert!(named >= ITEMS);
}

/// Broken: a scenario of vhost-pci belongs to no item.
#[test]
fn every_scenario_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/vhost-pci.md")).unwrap();
    for entry in fs::read_dir(root.join("scenarios/vhost-pci")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(
                page.contains(&format!("`vhost-pci/{name}`")),
                "`vhost-pci/{name}` stands nowhere"
            );
        }
    }
}

fn is_item(line: &str) -> bool {
    line.strip_prefix("| ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn number(row: &str) -> usize {
    row.trim_start_matches("| ").split(' ').next().unwrap().parse().unwrap()
}

/// A scenario by its id, a folder of scenarios, or a test by its function's name.
fn exists(root: &Path, name: &str) -> bool {
    if name.contains('/') {
        let path = root.join("scenarios").join(name);
        return path.with_extension("yaml").is_file() || path.is_dir();
    }
    let files = [
        "src/wire",
        "src/peer/sim/pci",
        "src/scenario",
        "src/judge",
        "src/engine",
        "tests",
        "src/peer/sim",
    ];
    let declared = format!("fn {name}(");
    files.iter().any(|folder| holds(&root.join(folder), &declared))
        || root.join("tests/bad-scenarios").join(format!("{name}.yaml")).is_file()
}

fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, text),
            false => path.extension().is_some_and(|e| e == "rs") && fs::read_to_string(&path).unwrap().contains(text),
        }
    })
}
