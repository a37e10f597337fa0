//! `keephold keys sheet`: the restore identity on paper, as text and as a QR code, with the commands that restore.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::usage;
use keephold_cli::identity::{PassphraseArgs, read_identity};
use keephold_cli::keys::write_new;
use keephold_cli::target::TargetArgs;
use keephold_vault::envelope::Recipients;
use keephold_vault::identity::{Identities, armoured, is_protected};
use keephold_vault::ids::Fingerprint;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};

use crate::config::Config;

/// Write a recovery sheet to print: the restore identity as text and QR code, and how to restore with it.
///
/// The sheet is a key. Print it on a machine and a printer that you trust, delete the file, and lay the paper into a safe.
#[derive(Debug, Args)]
pub(super) struct SheetArgs {
    /// The identity file; one that is protected by a passphrase is printed as it is, after it was opened once.
    #[arg(short, long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The vault's fingerprint; that of the key folder if there is one.
    #[arg(long, env = "KEEPHOLD_FINGERPRINT", hide_env_values = true, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// The file to write: plain text if its name ends in .txt, else a page (HTML) with the QR code.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

/// What stands on a sheet.
struct Sheet {
    url: String,
    fingerprint: String,
    public: String,
    protected: bool,
    /// What is typed or scanned: the file's content.
    key: String,
}

pub(super) fn run(args: &SheetArgs, folder: &Path, config: &Config) -> Result<String> {
    let target = args.target.resolve(&config.vault)?;
    let fingerprint = match args.fingerprint {
        Some(given) => given,
        None => std::fs::read_to_string(folder.join("vault.fingerprint"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| {
                usage("which vault? Give --fingerprint HEX (as `keephold init` printed it), or --keys DIR")
            })?,
    };
    let file = read_identity(&args.identity)?;
    // Also a protected one is opened: a sheet with a key that nobody can open is worth nothing.
    let text = args.passphrase.open(&args.identity)?;
    let identities =
        Identities::parse(&text).with_context(|| format!("in {}", args.identity.display()))?;
    let public = identities.public().join(" ");
    if let Ok(recipients) = std::fs::read_to_string(folder.join("recipients"))
        && !public.is_empty()
        && !Recipients::parse(&recipients)?.names().iter().any(|name| public.contains(name))
    {
        return Err(usage(format!(
            "this identity ({public}) is none of the recipients in {}: it would open nothing that this host stores",
            folder.join("recipients").display()
        )));
    }
    let protected = is_protected(&file);
    let key = if protected {
        armoured(&file)?
    } else {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let sheet = Sheet {
        url: target.url.to_string(),
        fingerprint: fingerprint.to_string(),
        public: if public.is_empty() { "of a hardware key".to_owned() } else { public },
        protected,
        key,
    };
    let plain = args.out.extension().is_some_and(|e| e == "txt");
    let content = if plain { sheet.text() } else { sheet.html()? };
    write_new(&args.out, &content, 0o600)?;
    Ok(format!(
        "{} is written. It is a key: print it, then delete it (`shred -u {0}`), and lay the paper into a safe.\n",
        args.out.display()
    ))
}

impl Sheet {
    fn commands(&self) -> String {
        format!(
            "export KEEPHOLD_VAULT='{}' KEEPHOLD_IDENTITY=restore.agekey\n\
             export KEEPHOLD_FINGERPRINT={}\n\
             keephold snapshots\n\
             keephold restore HOST/JOB --target /mnt/new\n\
             keephold dump HOST/JOB DATABASE | pg_restore --dbname DATABASE\n",
            self.url.replace('\'', "'\\''"),
            self.fingerprint
        )
    }

    fn steps(&self) -> [String; 3] {
        [
            "Scan or type the identity below into a file restore.agekey, every character."
                .to_owned(),
            if self.protected {
                "It is protected: you are asked for its passphrase, which is kept in another place."
                    .to_owned()
            } else {
                "Whoever has it can read every backup: bring nobody else's camera.".to_owned()
            },
            "With a credential that can read the vault, and the program keephold:".to_owned(),
        ]
    }

    fn text(&self) -> String {
        let [one, two, three] = self.steps();
        format!(
            "KEEPHOLD RECOVERY SHEET\n\nVault        {}\nFingerprint  {}\nRecipient    {}\n\n1. {one}\n2. {two}\n3. {three}\n\n{}\nIDENTITY\n\n{}\n",
            self.url,
            self.fingerprint,
            self.public,
            self.commands(),
            self.key
        )
    }

    fn html(&self) -> Result<String> {
        // Medium correction: a fold or a stain over a tenth of it does no harm.
        let code = QrCode::with_error_correction_level(self.key.as_bytes(), EcLevel::M)
            .context("the identity is too long for one QR code; write a .txt sheet")?;
        let svg = code.render::<svg::Color<'_>>().min_dimensions(280, 280).build();
        let svg = svg.split_once("?>").map_or(svg.as_str(), |(_, svg)| svg);
        let [one, two, three] = self.steps().map(|step| escape(&step));
        Ok(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Keephold recovery sheet</title>\n\
             <style>@page{{size:A4;margin:18mm}}body{{font:11pt/1.4 sans-serif;max-width:174mm;margin:8mm auto;color:#000}}\
             h1{{font-size:18pt;margin:0 0 4mm}}td{{font:9.5pt/1.5 monospace;overflow-wrap:anywhere}}\
             pre{{font:8.4pt/1.5 monospace;overflow-wrap:anywhere;white-space:pre-wrap}}\
             pre{{border:1px solid #000;padding:3mm}}th{{text-align:left;padding-right:5mm;vertical-align:top}}\
             svg{{display:block;width:75mm;height:75mm;margin:4mm auto}}</style></head>\n<body><h1>Keephold recovery sheet</h1>\n\
             <table><tr><th>Vault</th><td>{}</td></tr><tr><th>Fingerprint</th><td>{}</td></tr>\
             <tr><th>Recipient</th><td>{}</td></tr></table>\n<ol><li>{one}</li><li>{two}</li><li>{three}</li></ol>\n\
             <pre>{}</pre>\n<h2>Identity</h2>\n{svg}\n<pre>{}</pre>\n</body></html>\n",
            escape(&self.url),
            escape(&self.fingerprint),
            escape(&self.public),
            escape(&self.commands()),
            escape(&self.key)
        ))
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
