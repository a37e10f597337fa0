//! `report.html`: the whole report on one page that needs nothing else: no network, no script, no font.
//!
//! Everything is put into words and places here, in small structs of text, and the templates (`verifier/templates`) only
//! lay it out. No template turns escaping off, so no name from a host or a bucket can become markup.

mod calendar;
mod facts;
mod findings;
mod horizon;
mod jobs;
mod protection;
mod restores;
mod rto;
mod stored;

use super::model::{Report, Verdict};
use super::{summary, words};
use askama::Template as _;
use facts::{Fact, Tile};

/// Makes the page. `json_blake3` is the hash of the `report.json` that it renders, which the page names.
pub fn render(report: &Report, json_blake3: &str) -> Result<String, askama::Error> {
    let report = words::printable(report);
    Page::of(&report, json_blake3).render()
}

#[derive(askama::Template)]
#[template(path = "report.html", whitespace = "minimize")]
struct Page<'a> {
    report: &'a Report,
    json_blake3: &'a str,
    verdict: &'static str,
    verdict_class: &'static str,
    day: String,
    period: String,
    sentences: Vec<String>,
    about: Vec<Fact>,
    tiles: Vec<Tile>,
    findings: Vec<findings::Group>,
    levels: Vec<findings::LevelRow>,
    sampling: Option<String>,
    jobs: Vec<jobs::JobView>,
    restores: Vec<restores::RestoreView>,
    statements: Vec<protection::Statement>,
    protection: Vec<Fact>,
    objects: Vec<Fact>,
    settings: Vec<protection::Row>,
    proof: Option<protection::Row>,
    probes: Vec<protection::Row>,
    recipients: Vec<protection::Row>,
    copies: Vec<protection::Row>,
    copied_snapshots: Vec<protection::Row>,
    unprotected: Vec<protection::Row>,
    policy: Vec<Fact>,
    provenance: Vec<Fact>,
    criteria: Vec<protection::Criterion>,
}

impl<'a> Page<'a> {
    fn of(report: &'a Report, json_blake3: &'a str) -> Self {
        let verdict = report.result.verdict;
        Self {
            report,
            json_blake3,
            verdict: words::verdict(verdict),
            verdict_class: match verdict {
                Verdict::Ok => "ok",
                Verdict::Warnings => "warn",
                Verdict::Failed => "bad",
            },
            day: words::day(report.finished),
            period: format!(
                "{} to {}",
                words::day(report.period.from),
                words::day(report.period.until)
            ),
            sentences: summary::sentences(report),
            about: facts::about(report),
            tiles: facts::tiles(report),
            findings: findings::groups(report),
            levels: findings::levels(report),
            sampling: findings::sampling(report),
            jobs: report.jobs.iter().map(|job| jobs::JobView::of(job, report)).collect(),
            restores: report.restore_tests.iter().map(restores::RestoreView::of).collect(),
            statements: protection::statements(report),
            protection: protection::facts(report),
            objects: stored::objects(report),
            settings: protection::settings(report),
            proof: protection::proof(report),
            probes: protection::probes(report),
            recipients: protection::recipients(report),
            copies: protection::copies(report),
            copied_snapshots: protection::copied_snapshots(report),
            unprotected: protection::unprotected(report),
            policy: facts::policy(report),
            provenance: facts::provenance(report),
            criteria: protection::criteria(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::report::{model::Report, samples, write};

    fn page(report: &Report) -> String {
        let json = write::to_json(report).unwrap();
        render(report, &blake3::hash(&json).to_hex()).unwrap()
    }

    #[test]
    fn good() {
        insta::assert_snapshot!(page(&samples::good()));
    }

    #[test]
    fn warning() {
        insta::assert_snapshot!(page(&samples::warning()));
    }

    #[test]
    fn failing() {
        insta::assert_snapshot!(page(&samples::failing()));
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let page = page(&samples::failing());
        assert!(!page.contains("<script"), "a name became markup");
        assert!(page.contains("web&#60;script&#62;alert(1)"));
    }

    #[test]
    fn the_page_needs_nothing_else() {
        for report in [samples::good(), samples::warning(), samples::failing()] {
            let page = page(&report);
            for outside in
                ["src=", "url(", "@import", "<link", "href=\"http", "<script", " style=\""]
            {
                assert!(!page.contains(outside), "the page refers to something outside: {outside}");
            }
            assert!(page.contains("default-src 'none'"));
        }
    }
}
