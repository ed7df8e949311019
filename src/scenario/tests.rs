//! Tests of the whole room: goldens for what is wrong, plans for what is right, and texts from nowhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::sys::golden;

const GOLDENS: &str = "tests/bad-scenarios";

/// A person who gets an error sees another text than the one that was agreed on.
#[test]
fn bad_scenarios_print_what_their_goldens_say() {
    let bless = golden::blesses();
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
    assert!(
        differ.is_empty(),
        "VUH_BLESS=1 rewrites the goldens:\n{}",
        differ.join("\n")
    );
}

const PEERS: &str =
    "peers: {front: {frontend: simulated, device: net, queues: 32}, back: {backend: simulated, device: net}}";

fn text(rest: &str) -> String {
    // a peer that takes no part is an error of its own
    let peers = match rest.contains("back") {
        true => PEERS.to_owned(),
        false => PEERS.replace(", back: {backend: simulated, device: net}", ""),
    };
    format!("scenario: test/one\nabout: A test.\n{peers}\n{rest}")
}

fn plans(rest: &str, set: &[(&str, &str)]) -> Result<Vec<Plan>, Diagnostics> {
    let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load_str("test.yaml", &text(rest), &Settings { set })
}

fn plan(rest: &str) -> Plan {
    match plans(rest, &[]) {
        Ok(mut plans) => plans.remove(0),
        Err(errors) => panic!("{errors}"),
    }
}

fn errors(rest: &str) -> String {
    plans(rest, &[]).expect_err("it is wrong").to_string()
}

const DESIGN_EXAMPLE: &str = "\
scenario: race/config-change-crosses-get-config
about: A back-end announces a configuration change while the front-end waits for GET_CONFIG.
covers: [VU-RING-07]
peers:
  front: {frontend: qemu, device: virtio-net-pci}     # simulated | reference | qemu | dpdk
  back:  {backend: simulated, device: net}
timeout: 5 s
steps:
  - connect: {from: front, to: back}
  - hold: {as: answer, when: {from: back, reply_to: GET_CONFIG}}
  - send: {from: back, channel: backend, message: CONFIG_CHANGE_MSG, need_reply: true}
  - expect: {from: front, channel: backend, reply_to: CONFIG_CHANGE_MSG, status: 0}
  - release: answer
check:
  - order: [CONFIG_CHANGE_MSG, reply to GET_CONFIG]
  - acks: exactly-one
  - count: {of: {message: SET_OWNER}, is: {max: 1}}
";

/// A scenario as the documentation shows it does not load.
#[test]
fn the_example_of_the_design_loads() {
    let settings = Settings::default();
    let plans = load_str("example.yaml", DESIGN_EXAMPLE, &settings).unwrap_or_else(|e| panic!("{e}"));
    let plan = &plans[0];
    assert_eq!(plan.id, "race/config-change-crosses-get-config");
    assert_eq!(plan.scenario.steps.len(), 5);
    assert_eq!(plan.scenario.timeout.as_ref().unwrap().ms, 5000);
    assert_eq!(plan.controls("front"), None);
    let place = plan.controls("back").expect("the script sends for it");
    assert_eq!((place.line, yaml::slice(DESIGN_EXAMPLE, place)), (11, "send"));
}

/// Carets stand under other words than those that are meant.
#[test]
fn spans_are_those_of_the_words() {
    let source = text(
        "steps:\n  - send:\n      from: \"front\"\n      message: SET_VRING_NUM\n      fields: {index: 0x0, 'num': 256}\n",
    );
    let plan = load_str("t", &source, &Settings::default()).unwrap().remove(0);
    let step = &plan.scenario.steps[0];
    assert_eq!(yaml::slice(&source, step.span), "send");
    let model::Step::Send(send) = &step.value else { panic!() };
    assert_eq!(yaml::slice(&source, send.from.span), "\"front\"");
    let keys: Vec<_> = send
        .fields
        .iter()
        .map(|(k, v)| (yaml::slice(&source, k.span), yaml::slice(&source, v.span)))
        .collect();
    assert_eq!(keys, [("index", "0x0"), ("'num'", "256")]);
    let (peer, _) = plan.scenario.peers.iter().next().unwrap();
    assert_eq!(
        (peer.span.line, peer.span.column, yaml::slice(&source, peer.span)),
        (3, 9, "front")
    );
}

/// A number in place of text changes its spelling, or a whole number is taken for a fraction.
#[test]
fn scalars_keep_what_is_written() {
    let plan = plan(
        "steps:\n  - raw: {from: front, bytes: 00}\n  - kick: {from: front, ring: 0x10}\n  - write: {peer: front, address: '0x20', bytes: 0a_0b}\n",
    );
    let model::Step::Raw(raw) = &plan.scenario.steps[0].value else {
        panic!()
    };
    assert_eq!(raw.bytes.as_ref().unwrap().0, [0]);
    let model::Step::Kick(kick) = &plan.scenario.steps[1].value else {
        panic!()
    };
    assert_eq!(kick.ring.value, scalar::Num::Literal(16));
    let model::Step::Write(write) = &plan.scenario.steps[2].value else {
        panic!()
    };
    assert_eq!(
        (write.address.value.clone(), write.bytes.0.as_slice()),
        (scalar::Num::Literal(32), &[10, 11][..])
    );
}

const FAMILY: &str = "parameters:
  rings: {values: [1, 2]}
  wait: {default: 5 s}
  who: {values: [front, back]}
steps:
  - repeat: {times: \"${rings}\", as: n, steps: [{expect: {from: \"${who}\", closed: main, within: \"${wait}\", as: m}}, {kick: {from: front, ring: \"${n + 1}\"}}]}
  - qtest: {peer: front, line: \"x ${rings + 1} ${m.size}\"}
";

/// A family runs other members than its values say, or under other ids.
#[test]
fn families_are_every_combination() {
    let family = FAMILY
        .replace("qtest: {peer: front, line:", "raw: {from: front, bytes: 00} # ")
        .replace(", as: m", "");
    let ids = |plans: Vec<Plan>| plans.into_iter().map(|p| p.id).collect::<Vec<_>>();
    let all = ids(plans(&family, &[]).unwrap_or_else(|e| panic!("{e}")));
    let expected = [
        "rings=1,who=front",
        "rings=1,who=back",
        "rings=2,who=front",
        "rings=2,who=back",
    ];
    assert_eq!(all, expected.map(|suffix| format!("test/one[{suffix}]")));
    let some = plans(&family, &[("rings", "0x3"), ("wait", "1 min"), ("other", "x")]).unwrap();
    let model::Step::Repeat(repeat) = &some[0].scenario.steps[0].value else {
        panic!()
    };
    assert_eq!(repeat.times.value, scalar::Num::Literal(3));
    let model::Step::Expect(expect) = &repeat.steps[0].value else {
        panic!()
    };
    assert_eq!(expect.within.as_ref().unwrap().ms, 60_000);
    let settings = Settings {
        set: BTreeMap::from([("rings".to_owned(), String::new()), ("other".to_owned(), String::new())]),
    };
    assert_eq!(unknown_settings(&settings, &some), ["other"]);
    for nothing in ["", "null", "~"] {
        let error = plans(&family, &[("rings", nothing)]).unwrap_err().to_string();
        assert!(error.contains("is not a value for `rings`"), "{error}");
    }
    assert_eq!(ids(some), ["test/one[rings=3,who=front]", "test/one[rings=3,who=back]"]);
}

const FRAGMENTS: &str = "parameters:
  first: {default: 7}
fragments:
  outer:
    parameters: {start: {}}
    steps:
      - use: {fragment: inner, with: {base: \"${start + 1}\"}}
  inner:
    parameters: {base: {}}
    steps:
      - kick: {from: front, ring: \"${base + 2}\"}
      - kick: {from: front, ring: \"${first}\"}
steps:
  - expect: {from: front, message: SET_VRING_NUM, as: m}
  - use: {fragment: outer, with: {start: \"${m.index}\"}}
  - use: {fragment: outer, with: {start: 4}}
";

/// A fragment sees the wrong values, or forgets where it was used.
#[test]
fn fragments_expand_with_lexical_parameters() {
    let plan = plan(FRAGMENTS);
    let rings: Vec<_> = plan
        .scenario
        .steps
        .iter()
        .filter_map(|step| match &step.value {
            model::Step::Kick(kick) => Some(kick.ring.clone()),
            _ => None,
        })
        .collect();
    let mut bindings = Bindings::default();
    let field = |name: &str, n| {
        (
            span::At::nowhere(name.to_owned()),
            span::At::nowhere(scalar::Node::Number(n)),
        )
    };
    bindings.bind_message(
        "m",
        scalar::Node::Number(256),
        scalar::Ordered(vec![field("index", 10)]),
    );
    let values: Vec<_> = rings.iter().map(|ring| eval_num(ring, &bindings).unwrap()).collect();
    assert_eq!(values, [13, 7, 7, 7]);
    let error = eval_num(&rings[0], &Bindings::default()).unwrap_err();
    let drawn = error.render(&plan.sources, RenderStyle::Plain);
    assert!(drawn.contains("nothing is bound to `m`"), "{drawn}");
    assert_eq!(drawn.matches("used here").count(), 2, "{drawn}");
}

/// A failed condition points at nothing.
#[test]
fn plain_conditions_have_a_place() {
    let bound = "  - expect: {from: front, message: SET_OWNER, as: m}\n";
    let using = "  - expect: {from: front, message: SET_VRING_NUM, fields: {num: \"${m.size}\"}}\n";
    let plan = plan(&format!("steps:\n{bound}{using}"));
    let model::Step::Expect(expect) = &plan.scenario.steps[1].value else {
        panic!()
    };
    let error = eval_match(expect.fields.get("num").unwrap(), &Bindings::default()).unwrap_err();
    assert_eq!(error.one_line(&plan.sources), "test.yaml:6:65: nothing is bound to `m`");
}

/// References stand for other values than the bound ones.
#[test]
fn references_are_followed() {
    use scalar::{Node, Num};
    use span::At;
    let tree = yaml::parse(0, "{list: [{size: 16}, {size: 0x20}], text: abc, flag: true}").unwrap();
    let mut bindings = Bindings::default();
    bindings.bind("m", tree.value);
    bindings.bind("n", Node::Number(3));
    let num =
        |text: &str| eval_num(&At::nowhere(Num::Reference(text.to_owned())), &bindings).map_err(|e| e.message.clone());
    assert_eq!(num("${m.list[1].size - 2}"), Ok(30));
    assert_eq!(num("0x${n}0"), Ok(0x30));
    assert_eq!(num("${m.flag}"), Ok(1));
    assert_eq!(
        num("${n - 4}"),
        Err("`${n - 4}` is -1, which is not a 64-bit number".to_owned())
    );
    assert_eq!(
        num("${m.list[2].size}"),
        Err("no element 2 in `${m.list[2].size}`".to_owned())
    );
    assert_eq!(
        num("${m.text}"),
        Err("`${m.text}` is `abc`, which is not a number".to_owned())
    );
    assert_eq!(num("${x}"), Err("nothing is bound to `x`".to_owned()));
    assert_eq!(
        eval_text(&At::nowhere("a ${n} b ${m.text}".to_owned()), &bindings).unwrap(),
        "a 3 b abc"
    );
    assert_eq!(
        eval_node(&At::nowhere(Node::Text("${m.list[0]}".to_owned())), &bindings)
            .unwrap()
            .to_string(),
        "{size: 16}"
    );
}

/// Failures at run time print otherwise than errors at load.
#[test]
fn failures_draw_expected_and_actual() {
    let plan = plan("steps:\n  - expect: {from: front, message: SET_OWNER}\n");
    let failure = Diagnostic::error("another message came")
        .at(plan.scenario.steps[0].span)
        .label("waited here")
        .expected_actual("front -> back  SET_OWNER", "front -> back  GET_FEATURES")
        .help("vuh run test/one");
    let expected = "\
error: another message came
 --> test.yaml:5:5
  |
5 |   - expect: {from: front, message: SET_OWNER}
  |     ^^^^^^ waited here
  |
  = expected  front -> back  SET_OWNER
  = actual    front -> back  GET_FEATURES
  = help: vuh run test/one
";
    assert_eq!(failure.render(&plan.sources, RenderStyle::Plain), expected);
    assert!(failure.render(&plan.sources, RenderStyle::Coloured).contains("\u{1b}["));
    assert_eq!(failure.one_line(&plan.sources), "test.yaml:5:5: another message came");
}

/// A long name takes the linter seconds, or is printed at full length; or thousands of errors are all looked into.
#[test]
fn much_that_is_wrong_is_said_shortly() {
    let name = "N".repeat(100_000);
    assert_eq!(suggest::nearest(&name, [name.as_str()]), None);
    assert!(crate::wire::find(crate::wire::Dialect::VhostUser, &name, None).is_err());
    let drawn = errors(&format!("steps:\n  - send: {{from: front, message: {name}}}\n"));
    assert!(drawn.len() < 4000, "{} bytes", drawn.len());
    let wrong = "  - send: {from: front, message: SETX}\n".repeat(1000);
    let drawn = errors(&format!("steps:\n{wrong}"));
    assert!(drawn.contains("many more errors are not shown"), "{drawn}");
}

/// Files without bound are read.
#[test]
fn limits_are_kept() {
    let long = format!("# {}\n{DESIGN_EXAMPLE}", "x".repeat(yaml::MAX_FILE_BYTES));
    let error = load_str("long.yaml", &long, &Settings::default()).unwrap_err();
    assert!(
        error.to_string().contains("at most 262144 are read\n--> long.yaml"),
        "{error}"
    );
    let many = format!("steps: [{}]\n", "1,".repeat(yaml::MAX_NODES));
    assert!(errors(&many).contains("more than 50000 values"), "{}", errors(&many));
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert!(errors(bomb).contains("aliases"), "{}", errors(bomb));
    let mut nested = String::from("fragments:\n");
    for level in 0..10 {
        let next = level + 1;
        nested += &format!(
            "  f{level}: {{steps: [{}]}}\n",
            format!("{{use: {{fragment: f{next}}}}},").repeat(10)
        );
    }
    nested += "  f10: {steps: [{kick: {from: front, ring: 0}}]}\nsteps: [{use: {fragment: f0}}]\n";
    assert!(errors(&nested).contains("nested deeper than 8"), "{}", errors(&nested));
    let mut tower = String::from("fragments:\n");
    for level in 0..7 {
        let next = level + 1;
        let inner = "{repeat: {times: 1, steps: [".repeat(4);
        tower += &format!(
            "  f{level}: {{steps: [{inner}{{use: {{fragment: f{next}}}}}{}]}}\n",
            "]}}".repeat(4)
        );
    }
    tower += "  f7: {steps: [{kick: {from: front, ring: 0}}]}\nsteps: [{use: {fragment: f0}}]\n";
    assert!(errors(&tower).contains("nested deeper than 32"), "{}", errors(&tower));
    let allowed = tower.replace("fragment: f2}", "fragment: f7}");
    let drawn = errors(&allowed);
    assert!(
        drawn.contains("fragment `f3` is not used") && !drawn.contains("nested"),
        "{drawn}"
    );
    let wide = nested.replace("fragment: f6", "fragment: f10");
    assert!(errors(&wide).contains("more than 1000 uses"), "{}", errors(&wide));
}

/// Scenario files of other encodings are misread, or files of no encoding crash the reader.
#[test]
fn encodings_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.yaml");
    let write = |bytes: &[u8]| std::fs::write(&file, bytes).unwrap();
    let load = || load_file(&file, &Settings::default());
    let steps = "steps: [{connect: {from: front, to: back}}]\n";
    write(format!("\u{feff}{}", text(steps)).as_bytes());
    assert_eq!(load().unwrap_or_else(|e| panic!("{e}"))[0].id, "test/one");
    write(b"# a comment\nscenario: \xff\n");
    let error = load().unwrap_err().to_string();
    assert!(error.contains("not UTF-8 text: byte 22 is wrong"), "{error}");
    assert!(error.contains("one.yaml:2:11"), "{error}");
    write(b"# a comment\n");
    let error = load().unwrap_err().to_string();
    assert!(error.contains("one.yaml:1:1"), "{error}");
    assert!(
        load_file(Path::new("missing.yaml"), &Settings::default())
            .unwrap_err()
            .to_string()
            .contains("cannot read `missing.yaml`")
    );
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    /// Words of the language in any order, which gets deeper than letters in any order.
    fn words() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "scenario: ",
            "a/b",
            "\n",
            "  ",
            "- ",
            "about: x",
            "peers:",
            "steps:",
            "{",
            "}",
            "[",
            "]",
            ": ",
            ", ",
            "front",
            "frontend: simulated",
            "connect",
            "send",
            "use",
            "fragment",
            "fragments:",
            "parameters:",
            "values",
            "${",
            "${n}",
            "${n + 1}",
            "\"",
            "'",
            "&a ",
            "*a",
            "|\n",
            "é",
            "\t",
            "0x10",
            "99999999999999999999",
            "together",
            "repeat",
            "as",
            "#",
            "check:",
            "- order: ",
            "with",
            "default",
            "?",
            "!t ",
            "<<",
            "---\n",
        ]);
        prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
    }

    proptest! {
        /// A text brings the loader down.
        #[test]
        fn never_panics(text in words()) {
            draw(&text);
        }

        /// A text that begins like a scenario brings the loader down.
        #[test]
        fn never_panics_within_a_scenario(rest in words()) {
            draw(&super::text(&rest));
        }

        /// A scenario with a few letters changed brings the loader down.
        #[test]
        fn never_panics_on_slips(edits in prop::collection::vec((0..DESIGN_EXAMPLE.len(), any::<char>()), 1..4)) {
            let mut letters: Vec<char> = DESIGN_EXAMPLE.chars().collect();
            for (place, letter) in edits {
                letters[place] = letter;
            }
            draw(&letters.into_iter().collect::<String>());
        }

        /// Letters in any order bring the loader down.
        #[test]
        fn never_panics_on_letters(text in ".{0,200}") {
            draw(&text);
        }
    }

    fn draw(text: &str) {
        if let Err(errors) = load_str("any.yaml", text, &Settings::default()) {
            assert!(!errors.items.is_empty());
            assert!(!errors.render(RenderStyle::Plain).is_empty());
        }
    }
}
