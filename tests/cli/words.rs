//! What is found out before any scenario runs, and the verbs that run none.

use super::*;

/// Broken: help is an error, or nonsense is not.
#[test]
fn help_and_wrong_words() {
    let place = Place::empty();
    place.vuh(&["--help"]).code(0).out("Exit codes:");
    place.vuh(&["run", "--help"]).code(0).out("covers(GLOB)");
    place.vuh(&["--version"]).code(0).out("vuh ");
    place.vuh(&[]).code(2);
    place.vuh(&["frobnicate"]).code(2);
    place.vuh(&["run", "-j", "0"]).code(2);
    place
        .vuh(&["run", "--report", "xml:file"])
        .code(2)
        .err("json:FILE or junit:FILE");
    place
        .vuh(&["run", "--timeout", "5"])
        .code(2)
        .err("write a number and a unit");
    place.vuh(&["run", "--set", "novalue"]).code(2).err("NAME=VALUE");
}

/// Broken: a path that is not there looks like a run without scenarios.
#[test]
fn paths_that_are_not_there() {
    let place = Place::with(&[("link/close", PASSES)]);
    place
        .vuh(&["run", "scenarios/link/clse.yaml"])
        .code(2)
        .err("did you mean `scenarios/link/close.yaml`?");
    place
        .vuh(&["run", "./nowhere"])
        .code(2)
        .err("there is no file or folder `./nowhere`");
    Place::empty()
        .vuh(&["run"])
        .code(2)
        .err("there is no folder `scenarios` here");
}

/// Broken: a selection that matches nothing turns green.
#[test]
fn selections_that_match_nothing() {
    let place = Place::with(&[("link/close", PASSES)]);
    place
        .vuh(&["run", "link/cloze"])
        .code(4)
        .err("did you mean `link/close`?");
    place
        .vuh(&["run", "link/close", "other"])
        .code(4)
        .err("no scenario is called `other`");
    place
        .vuh(&["run", "link/close[n=1]"])
        .code(4)
        .err("no scenario is called `link/close[n=1]`");
    place
        .vuh(&["run", "--filter", "tag(slow)"])
        .code(4)
        .err("none of the 1 selected scenarios matches");
    std::fs::create_dir(place.path("empty")).unwrap();
    place
        .vuh(&["run", "empty"])
        .code(4)
        .err("there is no scenario in `empty`");
}

/// Broken: a wrong option is only found after everything has run, or never.
#[test]
fn options_that_cannot_be_meant() {
    let place = Place::with(&[("link/close", PASSES)]);
    let caret = "1 | tag(quick) adn blk\n  |            ^^^\n";
    place.vuh(&["run", "--filter", "tag(quick) adn blk"]).code(2).err(caret);
    place
        .vuh(&["run", "--backend", "refrence"])
        .code(2)
        .err("did you mean `reference`?");
    place
        .vuh(&["run", "--frontend", "a command"])
        .code(2)
        .err("has no {socket} and no {fd}");
    place
        .vuh(&["run", "--set", "n=1"])
        .code(2)
        .err("--set n: none of the selected scenarios has a parameter");
    place
        .vuh(&["run", "--require", "qmeu"])
        .code(2)
        .err("did you mean `qemu`?");
    let required = place.command(&["run"]).env("VUH_REQUIRE", "qmeu").output().unwrap();
    said(required).code(2).err("did you mean `qemu`?");
    place
        .vuh(&["run", "--report", "json:/nowhere/report.json"])
        .code(2)
        .err("report /nowhere/report.json");
    place
        .vuh(&["run", "--keep", "scenarios/link/close.yaml"])
        .code(2)
        .err("--keep scenarios/link/close.yaml");
}

/// Broken: an invalid file runs, hides others, or does not show its place.
#[test]
fn invalid_files() {
    let place = Place::with(&[
        ("link/close", PASSES),
        ("link/typo", INVALID),
        ("link/typo-too", INVALID),
    ]);
    let run = place
        .vuh(&["run"])
        .code(3)
        .err("--> scenarios/link/typo.yaml:7:5")
        .err("link/typo-too.yaml:7:5");
    assert!(run.err.ends_with("error: 2 errors in 2 files\n"), "{}", run.err);
    assert_eq!(run.out, "");
    place
        .vuh(&["lint"])
        .code(3)
        .err("link/typo.yaml:7:5")
        .err("link/typo-too.yaml:7:5");
    place
        .vuh(&["lint", "link/close"])
        .code(0)
        .out("no errors: 1 files, 1 scenarios");
    place.vuh(&["list", "link/typo"]).code(3);
    place.write("peers/mine.yaml", "peer: mine\nabout: x\nrole: neither\nprogram: x\n");
    place
        .vuh(&["run", "link/close", "--peers", "peers"])
        .code(3)
        .err("peers/mine.yaml");
}

/// Broken: `list` leaves scenarios out, or its document is no JSON.
#[test]
fn lists() {
    let place = Place::with(&[("link/close", PASSES), ("frontend/one", NEEDS_QEMU)]);
    let list = place.vuh(&["list"]).code(0);
    assert_eq!(
        list.out,
        "frontend/one  A made-up scenario.\nlink/close    A made-up scenario.\n"
    );
    let list = place.vuh(&["list", "--json", "--filter", "peer(qemu)"]).code(0);
    let document: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(
        (&document["format"], &document["version"]),
        (&"vuh-list".into(), &1.into())
    );
    assert_eq!(document["scenarios"][0]["id"], "frontend/one");
    assert_eq!(document["scenarios"].as_array().unwrap().len(), 1);
}

/// Broken: `vuh list | head -1` panics.
#[test]
fn a_reader_that_goes_away() {
    let place = Place::with(&[("link/close", PASSES)]);
    for words in [&["list"][..], &["schema"], &["doctor"], &["explain", "VU-CFG"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = place
            .command(words)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(said(child.wait_with_output().unwrap()).code(0).err, "", "{words:?}");
    }
}

/// Broken: the schema printed is not the one checked in.
#[test]
fn the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/scenario.schema.json");
    let printed = Place::empty().vuh(&["schema"]).code(0).out;
    // without the texts: they are long, and the schema's own test shows the difference
    assert!(
        printed == std::fs::read_to_string(path).unwrap(),
        "VUH_BLESS=1 cargo test --lib schema writes the file anew"
    );
}

/// Broken: a requirement is explained wrongly, without its scenarios, or not found in another spelling.
#[test]
fn explanations() {
    let place = Place::with(&[("link/close", PASSES)]);
    place
        .vuh(&["explain", "vu-cfg-02"])
        .code(0)
        .out("VU-CFG-02  MUST  back-end")
        .out("covered by  link/close");
    place
        .vuh(&["explain", "VU-CFG-03"])
        .code(0)
        .out("covered by  no scenario");
    Place::empty()
        .vuh(&["explain", "VU-CFG-03"])
        .code(0)
        .out("covered by  unknown");
    place
        .vuh(&["explain", "VU-CFG"])
        .code(0)
        .out("VU-CFG-01")
        .out("VU-CFG-07")
        .out("1 scenario");
    place
        .vuh(&["explain", "VHOST_USER_SET_SLAVE_REQ_FD"])
        .code(0)
        .out("SET_BACKEND_REQ_FD  request 21");
    place
        .vuh(&["explain", "reply_ack"])
        .code(0)
        .out("REPLY_ACK  protocol feature, bit 3");
    place
        .vuh(&["explain", "VU-CFG-99"])
        .code(2)
        .err("did you mean VU-CFG-0");
    place
        .vuh(&["explain", "GET_CONFG"])
        .code(2)
        .err("did you mean GET_CONFIG");
}

/// Broken: `doctor` fails on a machine without peers, or does not say how to get them.
#[test]
fn the_doctor() {
    let place = Place::with(&[("link/close", PASSES), ("link/typo", INVALID)]);
    let doctor = place
        .command(&["doctor"])
        .env("PATH", place.path("bin"))
        .output()
        .unwrap();
    said(doctor)
        .code(0)
        .out("qemu-system-x86_64 is not installed (scripts/install-peers brings it)")
        .out("memfd             works")
        .out("invalid files: `vuh lint` says why");
    Place::empty()
        .vuh(&["doctor"])
        .code(0)
        .out("there is no folder `scenarios` here");
}

/// Broken: colours in a file, or none where they were asked for.
#[test]
fn colours() {
    let place = Place::empty();
    assert!(!place.vuh(&["explain", "VU-CFG-02"]).out.contains('\u{1b}'));
    place
        .vuh(&["explain", "VU-CFG-02", "--color", "always"])
        .out("\u{1b}[1mVU-CFG-02\u{1b}[0m");
}

/// Broken: the catalogue cannot start the embedded peers.
#[test]
fn the_hidden_verb() {
    let place = Place::empty();
    place.vuh(&["reference-peer", "nonsense"]).code(2).err("nonsense");
    place.vuh(&["reference-peer", "--help"]).code(0).out("backend");
    assert!(!place.vuh(&["--help"]).out.contains("reference-peer"));
}

/// Broken: what cannot be printed is taken for printed.
#[test]
fn a_full_disk_is_a_fault() {
    let place = Place::with(&[("link/a", PASSES)]);
    for words in [&["schema"][..], &["list"], &["run"]] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let said = said(place.command(words).stdout(full).output().unwrap());
        said.code(70).err("No space left on device");
    }
}

/// Broken: one report overwrites another one, or lands in a file nobody looks for.
#[test]
fn each_report_has_a_file() {
    let place = Place::with(&[("link/a", PASSES)]);
    let twice = ["run", "--report", "json:r", "--report", "junit:r"];
    place.vuh(&twice).code(2).err("two reports are to go to r");
    place.vuh(&["run", "--report", "json:-"]).code(2).err("`-` is no file");
    assert!(!place.path("-").exists());
}

/// Broken: options that contradict each other, or the wrong one, are blamed on something else.
#[test]
fn options_are_blamed_by_name() {
    let place = Place::with(&[("link/a", PASSES)]);
    place
        .vuh(&["run", "--set", "a=1", "--set", "a=2"])
        .code(2)
        .err("--set a is given twice");
    place
        .vuh(&["run", "--require", "nope"])
        .code(2)
        .err("--require: no peer is called `nope`");
    place
        .vuh(&["run", "--backend", "b {fd} {socket}"])
        .code(2)
        .err("both {socket} and {fd}");
    place
        .vuh(&["run", "--backend", "b {fd} {nope}"])
        .code(2)
        .err("`{nope}` stands for nothing");
    place
        .vuh(&["doctor", "--root", "nowhere"])
        .code(2)
        .err("there is no folder `nowhere`");
    place.vuh(&["doctor"]).code(0);
}

/// Broken: ids below a folder are not found by its name with a slash, or a message not by its number.
#[test]
fn names_in_other_spellings() {
    let place = Place::with(&[("link/a", PASSES), ("link/b", PASSES)]);
    place.vuh(&["list", "link/"]).code(0).out("link/b");
    place.vuh(&["list", "nolink/"]).code(2);
    place.vuh(&["explain", "24"]).code(0).out("GET_CONFIG");
    place
        .vuh(&["explain", "9999"])
        .code(2)
        .err("no message has the number 9999");
}

/// Broken: a link that leads nowhere is said not to be there.
#[test]
fn links_are_named() {
    let place = Place::with(&[("link/a", PASSES)]);
    std::os::unix::fs::symlink("s1.yaml", place.path("s1.yaml")).unwrap();
    place
        .vuh(&["run", "s1.yaml"])
        .code(2)
        .err("s1.yaml: Too many levels of symbolic links");
    std::os::unix::fs::symlink("../link", place.path("scenarios/link/round")).unwrap();
    place.vuh(&["run", "scenarios"]).code(2).err("round is a link");
}

/// Broken: a matrix that cannot be measured is measured, or one that can is not.
#[test]
fn a_bench_of_one_cell_and_of_none() {
    let place = Place::empty();
    let small = [
        "bench",
        "--topology",
        "vhost-pci",
        "--ring",
        "split",
        "--ring-size",
        "64",
        "--size",
        "64",
    ];
    let short = ["--rounds", "2", "--window", "5", "--no-dpdk"];
    let words =
        |more: &[&'static str]| -> Vec<&'static str> { small.iter().chain(&short).chain(more).copied().collect() };
    place
        .vuh(&words(&["--json", "b.json", "--svg", "b.svg"]))
        .code(0)
        .out("vhost-pci  split     64  32     poll")
        .out("each verified; rings of 64, 2 rounds of 5 ms");
    place
        .vuh(&words(&["--baseline", "2"]))
        .code(2)
        .err("there are cells 1 to 1");
    // where DPDK is not, that is said
    let mut alone = place.command(&small);
    alone.args(["--rounds", "1", "--window", "5"]).env("PATH", "");
    said(alone.output().unwrap())
        .code(0)
        .out("DPDK's own pair is not measured beside: dpdk-testpmd is not installed (scripts/install-peers --dpdk");
    place
        .vuh(&["bench", "--size", "63"])
        .code(2)
        .err("it has to have 64 to 9000");
    place
        .vuh(&["bench", "--size", "big"])
        .code(2)
        .err("neither a number nor 'imix'");
    place
        .vuh(&["bench", "--ring-size", "100"])
        .code(2)
        .err("a power of two");
    place
        .vuh(&[
            "bench",
            "--latency",
            "--ring-size",
            "64",
            "--ring",
            "packed",
            "--rounds",
            "1",
        ])
        .code(0)
        .out("ratio of medians");
}
