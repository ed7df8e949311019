//! The report for CI servers: JUnit XML. Every selected scenario is a test case; nothing that needs a look is green.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::style::Style;
use super::{ReportError, ReportFile, Reporter, failure};
use crate::judge::outcome::Outcome;
use crate::judge::rated::Negotiated;
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::Plan;
use crate::suite::{Completed, Finished, Summary};

/// Writes the file at the end of the run.
#[derive(Debug)]
pub struct JUnit {
    file: ReportFile,
}

impl JUnit {
    /// A report into this file.
    pub fn new(file: ReportFile) -> Self {
        Self { file }
    }
}

impl Reporter for JUnit {
    fn done(&mut self, run: &Completed, _summary: &Summary) -> Result<(), ReportError> {
        let text = xml(run).map_err(|error| self.file.fail(error))?;
        self.file.write(&text)
    }
}

fn xml(run: &Completed) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("vuh");
    report.set_time(duration(run.duration_ms));
    let mut suite = TestSuite::new("scenarios");
    suite.set_time(duration(run.duration_ms));
    suite.add_test_cases(run.results.iter().map(case));
    suite.add_test_cases(run.not_run.iter().map(|plan| not_run(plan)));
    report.add_test_suite(suite);
    report.to_string()
}

fn duration(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

/// The folder of an id is the class, as CI servers show classes as a tree.
fn named(id: &str, status: TestCaseStatus) -> TestCase {
    let family = id.split('[').next().unwrap_or(id);
    let mut case = TestCase::new(id, status);
    case.set_classname(
        family
            .rsplit_once('/')
            .map_or("scenarios", |(folder, _)| folder)
            .replace('/', "."),
    );
    case
}

fn case(result: &Finished) -> TestCase {
    let outcome = &result.outcome;
    let mut case = named(&outcome.id, status(result.plan, outcome));
    case.set_time(duration(outcome.duration_ms));
    case.add_property(Property::new("verdict", outcome.verdict.to_string()));
    case.add_properties(outcome.covers.iter().map(|id| Property::new("covers", id)));
    case.add_properties(
        outcome
            .peers
            .iter()
            .map(|p| Property::new(format!("peer {} ({})", p.name, p.role), &p.kind)),
    );
    case.add_properties(outcome.rates.iter().map(|rated| {
        let (said, shown, limits) = (rated.said.name(), rated.shown(), rated.limits);
        let Negotiated { frames, .. } = &rated.measured.negotiated;
        let value = format!(
            "{said}: {shown}, asked for {limits}; {}, {frames}",
            rated.measured.negotiated
        );
        Property::new(rated.subject(), value)
    }));
    if let Some(failure) = &outcome.failure {
        let written: Vec<String> = failure
            .stderr
            .iter()
            .map(|(peer, text)| format!("{peer}:\n{text}"))
            .collect();
        if !written.is_empty() {
            case.set_system_err(written.join("\n"));
        }
    }
    case
}

fn status(plan: &Plan, outcome: &Outcome) -> TestCaseStatus {
    let (mut status, ty) = match outcome.verdict {
        Verdict::Pass => return TestCaseStatus::success(),
        Verdict::Fail(kind @ (FailKind::Start | FailKind::Script | FailKind::Harness)) => {
            (TestCaseStatus::non_success(NonSuccessKind::Error), kind.to_string())
        }
        Verdict::Fail(kind) => (TestCaseStatus::non_success(NonSuccessKind::Failure), kind.to_string()),
        Verdict::UnexpectedPass => (
            TestCaseStatus::non_success(NonSuccessKind::Failure),
            outcome.verdict.to_string(),
        ),
        Verdict::Inconclusive => (
            TestCaseStatus::non_success(NonSuccessKind::Error),
            outcome.verdict.to_string(),
        ),
        Verdict::Unsupported | Verdict::Skipped | Verdict::ExpectedFail => {
            (TestCaseStatus::skipped(), outcome.verdict.to_string())
        }
    };
    let reason = outcome.reason.as_deref().unwrap_or("no reason was given");
    status.set_message(if matches!(outcome.verdict, Verdict::Fail(_)) {
        reason.to_owned()
    } else {
        format!("{}: {reason}", outcome.verdict)
    });
    status.set_type(ty);
    if let Some(failure) = &outcome.failure {
        status.set_description(failure::show(plan, failure, Style::Plain));
    }
    status
}

fn not_run(plan: &Plan) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    status.set_message("not run: interrupted").set_type("not-run");
    named(&plan.id, status)
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    fn written() -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        golden::run(|_, _| Box::new(JUnit::new(ReportFile::create(path.clone()).unwrap())));
        std::fs::read_to_string(path).unwrap()
    }

    /// Broken: the JUnit report changed.
    #[test]
    fn every_verdict() {
        golden::check("junit.xml", &written());
    }

    /// Broken: a parser cannot read it, or counts differently from what it says itself.
    #[test]
    fn reads_back() {
        use quick_xml::events::Event;
        let text = written();
        let mut reader = quick_xml::Reader::from_str(&text);
        let mut counts = [("testcase", 0), ("failure", 0), ("error", 0), ("skipped", 0)];
        let mut announced = Vec::new();
        loop {
            let element = match reader.read_event().unwrap() {
                Event::Start(element) | Event::Empty(element) => element,
                Event::Eof => break,
                _ => continue,
            };
            let name = String::from_utf8(element.name().as_ref().to_vec()).unwrap();
            if name == "testsuite" {
                for key in ["tests", "failures", "errors", "skipped"] {
                    let value = element.try_get_attribute(key).unwrap().unwrap();
                    announced.push(
                        String::from_utf8(value.value.to_vec())
                            .unwrap()
                            .parse::<usize>()
                            .unwrap(),
                    );
                }
            }
            for (counted, number) in &mut counts {
                *number += usize::from(*counted == name);
            }
        }
        assert_eq!(counts.map(|(_, number)| number).to_vec(), announced);
        assert_eq!(announced, [14, 4, 2, 5]);
    }
}
