//! The stable interface for programs: one JSON document a run, with a version. Its page is `docs/reference/report.md`, its
//! schema is generated from the types here.

mod rate;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use rate::{JsonDelivery, JsonInterval, JsonNegotiated, JsonRate};

use super::style::Style;
use super::{ReportError, ReportFile, Reporter, failure};
use crate::judge::outcome::Outcome;
use crate::judge::verdict::Verdict;
use crate::scenario::Plan;
use crate::suite::summary::count;
use crate::suite::{Completed, Finished, Summary};

/// `format` of every report.
pub const FORMAT: &str = "vuh-report";

/// The version that this release writes, and the only one it reads. Fields may be added without a new version; a reader
/// has to let fields pass that it does not know.
pub const VERSION: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonReport {
    /// Always `vuh-report`.
    pub format: String,
    /// Version of this format: 1.
    pub version: u32,
    /// Version of the harness that wrote it.
    pub harness: String,
    /// Options and circumstances.
    pub run: JsonRun,
    /// How many came to which verdict.
    pub totals: JsonTotals,
    /// Every scenario that was started or skipped, by id.
    pub scenarios: Vec<JsonScenario>,
    /// Ids of scenarios that were selected and not run because of an interrupt.
    pub not_run: Vec<String>,
}

/// Options and circumstances of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonRun {
    /// `--frontend`.
    pub frontend: Option<String>,
    /// `--backend`.
    pub backend: Option<String>,
    /// `--set`.
    pub set: BTreeMap<String, String>,
    /// `--filter`.
    pub filter: Option<String>,
    /// `--timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Version lines of the catalogue's programs that took part, by name.
    pub peer_versions: BTreeMap<String, String>,
    /// Worker threads.
    pub jobs: usize,
    /// Milliseconds from the first scenario's start to the last one's end.
    pub duration_ms: f64,
    /// Stopped by a signal.
    pub interrupted: bool,
}

/// How many came to which verdict. They add up to `selected`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the number of the verdict of its name")]
pub struct JsonTotals {
    pub selected: usize,
    pub pass: usize,
    pub fail: usize,
    pub unsupported: usize,
    pub skipped: usize,
    pub expected_fail: usize,
    pub unexpected_pass: usize,
    pub inconclusive: usize,
    pub not_run: usize,
}

/// One scenario's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonScenario {
    /// Its id, with its parameters if it is one of a family.
    pub id: String,
    /// Its file.
    pub path: String,
    /// What it is about.
    pub about: String,
    /// Requirement ids.
    pub covers: Vec<String>,
    /// `pass`, `fail`, `unsupported`, `skipped`, `expected-fail`, `unexpected-pass` or `inconclusive`.
    pub verdict: String,
    /// Of a failure: `wrong`, `crash`, `hang`, `leak`, `start` or `harness`.
    pub fail_kind: Option<String>,
    /// Why, in one line.
    pub reason: Option<String>,
    /// Who took part.
    pub peers: Vec<JsonPeer>,
    /// Milliseconds.
    pub duration_ms: f64,
    /// Events on its timeline.
    pub events: usize,
    /// Messages among them.
    pub messages: usize,
    /// What happened in its rings, as far as the ring oracle could see.
    pub marks: Vec<String>,
    /// Its rate checks, as far as it came to them.
    #[serde(default)]
    pub rates: Vec<JsonRate>,
    /// A failure in full.
    pub failure: Option<JsonFailure>,
}

/// A peer that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonPeer {
    /// Its name in the scenario.
    pub name: String,
    /// `front-end` or `back-end`.
    pub role: String,
    /// `simulated`, a name of the catalogue, or a command line.
    pub kind: String,
    /// How its process ended, if it had one.
    pub exit: Option<String>,
}

/// A failure in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonFailure {
    /// The message.
    pub message: String,
    /// The place, if it is at one.
    pub location: Option<JsonLocation>,
    /// All of it as text: the source with a caret, expected and actual, events, standard errors, command.
    pub text: String,
    /// The last events of the timeline, oldest first.
    pub last_events: Vec<String>,
    /// Standard error of each process that wrote something.
    pub stderr: Vec<JsonOutput>,
    /// The command that runs it again.
    pub rerun: String,
}

/// A place in a file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct JsonLocation {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// What a process wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonOutput {
    /// The peer's name in the scenario.
    pub peer: String,
    /// The text.
    pub text: String,
}

/// A document that this release cannot read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no JSON, or lacks something.
    #[error("not a report: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is some other document.
    #[error("its format is `{0}`, not `{FORMAT}`")]
    Format(String),
    /// It is of another version.
    #[error("it is of version {found} (written by vuh {harness}), and this release reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
        /// Who wrote it.
        harness: String,
    },
}

impl JsonReport {
    /// Reads a report back.
    ///
    /// # Errors
    /// It is something else, or of another version.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
            harness: String,
        }
        let head: Head = serde_json::from_str(text)?;
        match head {
            Head { format, .. } if format != FORMAT => Err(ReadError::Format(format)),
            Head { version, harness, .. } if version != VERSION => Err(ReadError::Version {
                found: version,
                harness,
            }),
            _ => Ok(serde_json::from_str(text)?),
        }
    }

    fn of(run: &Completed, summary: &Summary, options: &JsonRun) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            run: JsonRun {
                jobs: run.jobs,
                duration_ms: rounded(run.duration_ms),
                interrupted: run.interrupted,
                ..options.clone()
            },
            totals: JsonTotals {
                selected: summary.selected,
                pass: summary.passed_count(),
                fail: summary.failed_count(),
                unsupported: count(&summary.unsupported),
                skipped: count(&summary.skipped),
                expected_fail: summary.expected_fail,
                unexpected_pass: summary.unexpected_pass,
                inconclusive: summary.inconclusive,
                not_run: summary.not_run,
            },
            scenarios: run.results.iter().map(scenario).collect(),
            not_run: run.not_run.iter().map(|plan| plan.id.clone()).collect(),
        }
    }
}

/// Microseconds are enough.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

fn scenario(result: &Finished) -> JsonScenario {
    let Outcome {
        id,
        path,
        about,
        covers,
        verdict,
        reason,
        failure,
        peers,
        duration_ms,
        script_ms: _,
        events,
        messages,
        marks,
        rates,
    } = &result.outcome;
    JsonScenario {
        id: id.clone(),
        path: path.display().to_string(),
        about: about.clone(),
        covers: covers.clone(),
        verdict: verdict.to_string(),
        fail_kind: match verdict {
            Verdict::Fail(kind) => Some(kind.to_string()),
            _ => None,
        },
        reason: reason.clone(),
        peers: peers
            .iter()
            .cloned()
            .map(|p| JsonPeer {
                name: p.name,
                role: p.role,
                kind: p.kind,
                exit: p.exit,
            })
            .collect(),
        duration_ms: rounded(*duration_ms),
        events: *events,
        messages: *messages,
        marks: marks.iter().map(ToString::to_string).collect(),
        rates: rates.iter().map(JsonRate::from).collect(),
        failure: failure.as_ref().map(|f| JsonFailure {
            message: f.diagnostic.message.clone(),
            location: location(result.plan, f),
            text: failure::show(result.plan, f, Style::Plain),
            last_events: f.last_events.clone(),
            stderr: f
                .stderr
                .iter()
                .cloned()
                .map(|(peer, text)| JsonOutput { peer, text })
                .collect(),
            rerun: f.rerun.clone(),
        }),
    }
}

fn location(plan: &Plan, failure: &crate::judge::outcome::Failure) -> Option<JsonLocation> {
    let span = failure.diagnostic.span?;
    let file = plan.sources.get(span.source as usize)?.path.display().to_string();
    Some(JsonLocation {
        file,
        line: span.line,
        column: span.column,
    })
}

/// The JSON Schema of the report.
pub fn schema() -> String {
    let schema = schemars::schema_for!(JsonReport);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is a tree of plain values");
    text.push('\n');
    text
}

/// Writes the file at the end of the run.
#[derive(Debug)]
pub struct Json {
    file: ReportFile,
    options: JsonRun,
}

impl Json {
    /// A report into this file; `options` are those of the run, whose other fields are filled in.
    pub fn new(file: ReportFile, options: JsonRun) -> Self {
        Self { file, options }
    }
}

impl Reporter for Json {
    fn done(&mut self, run: &Completed, summary: &Summary) -> Result<(), ReportError> {
        let report = JsonReport::of(run, summary, &self.options);
        let text = serde_json::to_string_pretty(&report).map_err(|error| self.file.fail(error))?;
        self.file.write(&format!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::golden;
    use super::*;

    fn written() -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let options = JsonRun {
            backend: Some("reference".into()),
            set: [("n".to_owned(), "2".to_owned())].into(),
            peer_versions: [("reference".to_owned(), "embedded".to_owned())].into(),
            ..JsonRun::default()
        };
        golden::run(|_, _| Box::new(Json::new(ReportFile::create(path.clone()).unwrap(), options)));
        std::fs::read_to_string(path).unwrap()
    }

    /// Broken: the JSON report changed. If a field is gone or means something else, the version has to change too.
    #[test]
    fn every_verdict() {
        golden::check("report.json", &written().replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }

    /// Broken: what is written cannot be read back, or its totals do not add up.
    #[test]
    fn reads_back() {
        let report = JsonReport::parse(&written()).unwrap();
        let JsonTotals {
            selected,
            pass,
            fail,
            unsupported,
            skipped,
            ..
        } = report.totals;
        let JsonTotals {
            expected_fail,
            unexpected_pass,
            inconclusive,
            not_run,
            ..
        } = report.totals;
        let sum = pass + fail + unsupported + skipped + expected_fail + unexpected_pass + inconclusive + not_run;
        assert_eq!((sum, selected), (14, 14));
        assert_eq!(report.scenarios.iter().filter(|s| s.failure.is_some()).count(), fail);
    }

    /// Broken: a report of a later version is misread, or the message does not say which release can read it.
    #[test]
    fn other_documents_are_refused() {
        let later = written()
            .replace("\"version\": 1", "\"version\": 2")
            .replace(env!("CARGO_PKG_VERSION"), "9.0");
        let error = JsonReport::parse(&later).unwrap_err().to_string();
        assert_eq!(
            error,
            "it is of version 2 (written by vuh 9.0), and this release reads version 1"
        );
        let other = written().replace(FORMAT, "vuh-list");
        assert!(matches!(JsonReport::parse(&other), Err(ReadError::Format(_))));
        assert!(matches!(JsonReport::parse("{}"), Err(ReadError::Malformed(_))));
    }

    /// Broken: the checked-in schema is not the one of the types.
    #[test]
    fn the_schema_is_fresh() {
        golden::check_page("docs/reference/report.schema.json", &schema());
    }

    /// Broken: the page leaves out a field that the report has.
    #[test]
    fn the_page_names_every_field() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/report.md");
        let page = std::fs::read_to_string(path).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let types = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for field in types.flat_map(|t| t["properties"].as_object().unwrap().keys()) {
            assert!(
                page.contains(&format!("`{field}`")),
                "docs/reference/report.md does not name `{field}`"
            );
        }
    }
}
