//! Puts what the checks found into the report, with who made it, about what, and under which policy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

use jiff::Timestamp;
use keephold_vault::keys::random;
use keephold_vault::sign::SigningKey;
use keephold_vault::store::{LockPolicy, TargetUrl};

use super::context::Context;
use super::copies::Copies;
use super::findings::Findings;
use super::freshness::CLOCK_TOLERANCE;
use super::history::History;
use super::jobs;
use super::lock::Locks;
use super::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::{
    Clock, Coverage, DefaultRetention, Encryption, EscrowDrill, EvidenceStore, Integrity,
    LevelResult, LockMode, LockProof, NamedProof, Objects, OffsiteCopy, Outcome, Period, Policy,
    Recipient, Report, RestoreTest, SCHEMA, Signer, Strength, Target, Tool,
};

/// What the checks found.
pub(super) struct Parts<'a> {
    context: &'a Context<'a>,
    previous: &'a Previous,
    pub(super) history: Option<History>,
    pub(super) findings: Findings,
    pub(super) levels: Vec<LevelResult>,
    pub(super) objects: Objects,
    pub(super) integrity: Integrity,
    pub(super) locks: Locks,
    pub(super) copies: Vec<OffsiteCopy>,
    pub(super) restore_tests: Vec<RestoreTest>,
    pub(super) proof: Option<(NamedProof, LockProof)>,
    pub(super) escrow_drill: Option<EscrowDrill>,
    evidence_store: Option<EvidenceStore>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        previous: &'a Previous,
        evidence_store: Option<EvidenceStore>,
    ) -> Self {
        Self {
            context,
            previous,
            history: None,
            findings: Findings::default(),
            levels: Vec::new(),
            objects: Objects::default(),
            integrity: Integrity::default(),
            locks: Locks::default(),
            copies: Copies::unlooked(&context.settings.copies),
            restore_tests: Vec::new(),
            proof: None,
            escrow_drill: None,
            evidence_store,
        }
    }

    /// The report, concluded.
    pub(super) fn report(mut self) -> Report {
        let context = self.context;
        let history = self.history.take().unwrap_or_default();
        let changed = self.previous.config_changed(&context.settings.config_blake3);
        if changed == Some(true) {
            let summary =
                "The verifier's configuration is not the one of the previous report.".to_owned();
            self.findings.add(&code::CONFIG_CHANGED, "configuration", summary, None);
        }
        let mut findings = std::mem::take(&mut self.findings).finish();
        for finding in &mut findings {
            finding.first_seen = self.previous.first_seen(&finding.code, &finding.resource);
        }
        let finished = Timestamp::now();
        let first = history.runs.iter().map(|run| run.found.key.started).min();
        let (lock_proof, proof) = self.proof.take().unzip();
        let lock_probes = proof.map(|proof| proof.attempts).unwrap_or_default();
        let mut report = Report {
            schema: SCHEMA.to_owned(),
            // Milliseconds first, so that the names of folders sort by time also within a second.
            report_id: format!(
                "{:03}-{}",
                finished.subsec_millisecond(),
                hex::encode(random::<4>().unwrap_or_default())
            ),
            started: context.now,
            finished,
            result: Outcome::unconcluded(),
            tool: tool(),
            clock: self.clock(),
            period: Period { from: first.unwrap_or(context.now).min(finished), until: finished },
            target: self.target(),
            policy: self.policy(&history, changed),
            levels: std::mem::take(&mut self.levels),
            findings,
            jobs: jobs::jobs(context, &history, &self.locks, &self.restore_tests, self.previous),
            encryption: self.encryption(&history),
            objects: self.objects,
            integrity: self.integrity,
            restore_tests: self.restore_tests,
            lock_probes,
            lock_proof,
            copies: self.copies,
            coverage: Coverage::default(),
            escrow_drill: self.escrow_drill,
            evidence_store: self.evidence_store,
            previous_report: self.previous.named(),
            signer: signer(&context.settings.report_key),
        };
        report.conclude();
        report
    }

    fn clock(&self) -> Clock {
        let store = self.context.vault.store();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a clock's error")]
        let offset_s = store.clock_offset_ms().map(|ms| -(ms as f64) / 1000.0);
        Clock {
            offset_s,
            tolerance_s: CLOCK_TOLERANCE.as_secs_f64(),
            compared_with: offset_s.map(|_| format!("Date header of {}", store.url())),
        }
    }

    fn target(&self) -> Target {
        let context = self.context;
        let options = &context.settings.target.options;
        let protection = self.locks.protection.as_ref();
        let promised = protection.map(|protection| Strength::from(protection.strength));
        let mut notes: Vec<String> =
            protection.map(|protection| protection.notes.clone()).unwrap_or_default();
        notes.extend(context.vault.notes().iter().map(ToString::to_string));
        if self.locks.strength().is_none() {
            notes.push(
                "no lock was seen in this run, so nothing is claimed about the target's protection"
                    .to_owned(),
            );
        }
        Target {
            url: context.vault.store().url(),
            vault_id: context.vault.id().to_string(),
            fingerprint: context.vault.fingerprint().to_string(),
            fingerprint_pinned: context.settings.fingerprint.is_some(),
            region: options.region.clone(),
            account: None,
            // What was seen on objects counts; what the bucket says of itself can only lower it.
            strength: match (self.locks.strength(), promised) {
                (Some(seen), Some(promised)) => seen.min(promised),
                (Some(seen), None) => seen,
                (None, _) => Strength::None,
            },
            versioning: protection.and_then(|protection| protection.versioning),
            object_lock: protection.and_then(|protection| protection.object_lock),
            default_retention: protection
                .and_then(|p| default_retention(p.default_retention.as_deref()?)),
            settings: self.locks.settings.clone(),
            notes,
        }
    }

    fn policy(&self, history: &History, changed: Option<bool>) -> Policy {
        let settings = self.context.settings;
        let has_modes = !settings.target.url.is_local();
        let mut classes: BTreeSet<String> = BTreeSet::new();
        for run in history.newest() {
            let Ok(facts) = &run.facts else { continue };
            let retention = &facts.retention;
            let days =
                |until: Timestamp| (until.duration_since(facts.started).as_hours() + 12) / 24;
            let evidence = days(retention.evidence_until);
            classes.insert(format!(
                "{}: kept for {} days, records for {evidence}",
                retention.class,
                days(retention.expires)
            ));
        }
        Policy {
            id: None,
            version: None,
            owner: None,
            approved_by: None,
            approved_on: None,
            config_blake3: settings.config_blake3.clone(),
            changed_since_previous: changed,
            required_mode: match settings.target.options.lock {
                LockPolicy::Compliance if has_modes => Some(LockMode::Compliance),
                LockPolicy::Governance if has_modes => Some(LockMode::Governance),
                LockPolicy::Compliance | LockPolicy::Governance | LockPolicy::None => None,
            },
            retention: classes.into_iter().collect(),
        }
    }

    /// When an escrow drill last opened everything with a recipient's identity.
    fn last_used(&self, public_key: &str) -> Option<Timestamp> {
        let drill = self.escrow_drill.as_ref()?;
        let whole = drill.jobs_opened == drill.jobs;
        (whole && drill.recipient.as_deref() == Some(public_key)).then_some(drill.finished)
    }

    fn encryption(&self, history: &History) -> Encryption {
        let mut recipients: BTreeMap<String, Recipient> = BTreeMap::new();
        for run in history.newest() {
            let Ok(facts) = &run.facts else { continue };
            for public_key in &facts.recipients {
                let recipient = recipients.entry(public_key.clone()).or_insert_with(|| Recipient {
                    public_key: public_key.clone(),
                    label: None,
                    jobs: Vec::new(),
                    last_used: self.last_used(public_key),
                });
                recipient.jobs.push(format!("{}/{}", run.found.key.host, run.found.key.job));
            }
        }
        let settings = self.context.settings;
        let plain =
            settings.target.options.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
        let opened = self.integrity.packs_opened;
        Encryption {
            algorithm: (opened > 0).then(|| "AES-256-GCM, a key for each pack".to_owned()),
            key_sealing: (opened > 0)
                .then(|| "age, a key for each run, sealed to the recipients".to_owned()),
            writer_can_read: None,
            transport: Some(match &settings.target.url {
                TargetUrl::Local { .. } => "a folder on the verifier's machine".to_owned(),
                TargetUrl::S3 { .. } | TargetUrl::Google { .. } | TargetUrl::Azure { .. } => {
                    if plain { "HTTP without TLS" } else { "HTTPS" }.to_owned()
                }
            }),
            packs_authenticated: opened,
            recipients: recipients.into_values().collect(),
        }
    }
}

/// `COMPLIANCE 30 days`, as the store says it.
fn default_retention(text: &str) -> Option<DefaultRetention> {
    let mut parts = text.split_whitespace();
    let mode = match parts.next()? {
        "COMPLIANCE" => LockMode::Compliance,
        "GOVERNANCE" => LockMode::Governance,
        _ => return None,
    };
    let number: u32 = parts.next()?.parse().ok()?;
    let days = if parts.next()?.starts_with("year") { number.checked_mul(365)? } else { number };
    Some(DefaultRetention { mode, days })
}

/// Whose key signs it.
pub(crate) fn signer(key: &SigningKey) -> Signer {
    let public = key.public();
    let public_key = public.to_openssh();
    // The comment is the principal of a plain .pub line.
    let principal = public_key.split_whitespace().nth(2).unwrap_or("keephold-verify").to_owned();
    Signer {
        principal,
        fingerprint: public.fingerprint(),
        public_key,
        namespace: keephold_vault::sign::Purpose::Report.namespace().to_owned(),
    }
}

/// Who made it.
pub(crate) fn tool() -> Tool {
    let system = rustix::system::uname();
    let own = std::env::current_exe().and_then(std::fs::File::open);
    let binary = own.and_then(|file| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        Ok(hasher.finalize().to_hex().to_string())
    });
    let uid = rustix::process::geteuid().as_raw();
    Tool {
        name: "keephold-verify".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        binary_blake3: binary.ok(),
        hostname: system.nodename().to_string_lossy().into_owned(),
        user: std::env::var("USER")
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("uid {uid}")),
        invoked_by: if std::env::var_os("INVOCATION_ID").is_some() {
            Some("systemd".to_owned())
        } else if std::io::stdin().is_terminal() {
            Some("a person at a terminal".to_owned())
        } else {
            None
        },
    }
}
