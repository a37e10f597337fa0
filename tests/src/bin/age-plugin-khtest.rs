//! An age plugin for tests, as those of hardware keys are: it speaks age's plugin protocol, and wraps file keys to an
//! X25519 key of its own (a whole age file in a stanza). Called without options it makes an identity, as `age-keygen` does.

use std::collections::{HashMap, HashSet};
use std::io;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519;
use age_core::format::{FileKey, Stanza};
use age_plugin::identity::{self, IdentityPluginV1};
use age_plugin::recipient::{self, RecipientPluginV1};
use age_plugin::{Callbacks, PluginHandler, print_new_identity, run_state_machine};

const NAME: &str = "khtest";

struct Handler;

impl PluginHandler for Handler {
    type RecipientV1 = Wraps;
    type IdentityV1 = Unwraps;

    fn recipient_v1(self) -> io::Result<Wraps> {
        Ok(Wraps::default())
    }

    fn identity_v1(self) -> io::Result<Unwraps> {
        Ok(Unwraps::default())
    }
}

/// A key, in the bytes that stand in a recipient or an identity of this plugin.
fn key<K: FromStr>(plugin: &str, bytes: &[u8]) -> Option<K> {
    std::str::from_utf8(bytes).ok().filter(|_| plugin == NAME)?.parse().ok()
}

#[derive(Default)]
struct Wraps(Vec<x25519::Recipient>);

impl RecipientPluginV1 for Wraps {
    fn add_recipient(
        &mut self,
        index: usize,
        plugin: &str,
        bytes: &[u8],
    ) -> Result<(), recipient::Error> {
        let message = "no recipient of khtest".to_owned();
        self.0.push(key(plugin, bytes).ok_or(recipient::Error::Recipient { index, message })?);
        Ok(())
    }

    fn add_identity(
        &mut self,
        index: usize,
        plugin: &str,
        bytes: &[u8],
    ) -> Result<(), recipient::Error> {
        let message = "no identity of khtest".to_owned();
        let key: Option<x25519::Identity> = key(plugin, bytes);
        self.0.push(key.ok_or(recipient::Error::Identity { index, message })?.to_public());
        Ok(())
    }

    fn labels(&mut self) -> HashSet<String> {
        HashSet::new()
    }

    fn wrap_file_keys(
        &mut self,
        file_keys: Vec<FileKey>,
        _: impl Callbacks<recipient::Error>,
    ) -> io::Result<Result<Vec<Vec<Stanza>>, Vec<recipient::Error>>> {
        let wrap = |key: &FileKey, to: &x25519::Recipient| {
            let body = age::encrypt(to, key.expose_secret()).map_err(io::Error::other)?;
            Ok(Stanza { tag: NAME.to_owned(), args: Vec::new(), body })
        };
        let wrapped: io::Result<_> = file_keys
            .iter()
            .map(|file_key| self.0.iter().map(|to| wrap(file_key, to)).collect())
            .collect();
        wrapped.map(Ok)
    }
}

#[derive(Default)]
struct Unwraps(Vec<x25519::Identity>);

impl IdentityPluginV1 for Unwraps {
    fn add_identity(
        &mut self,
        index: usize,
        plugin: &str,
        bytes: &[u8],
    ) -> Result<(), identity::Error> {
        let message = "no identity of khtest".to_owned();
        self.0.push(key(plugin, bytes).ok_or(identity::Error::Identity { index, message })?);
        Ok(())
    }

    fn unwrap_file_keys(
        &mut self,
        files: Vec<Vec<Stanza>>,
        mut callbacks: impl Callbacks<identity::Error>,
    ) -> io::Result<HashMap<usize, Result<FileKey, Vec<identity::Error>>>> {
        let mut found = HashMap::new();
        for (index, stanzas) in files.into_iter().enumerate() {
            let own: Vec<_> = stanzas.iter().filter(|stanza| stanza.tag == NAME).collect();
            if !own.is_empty() {
                // What a hardware key's plugin says here; whether anybody reads it is the caller's affair.
                let _ = callbacks.message("khtest: touch the key")?;
            }
            let opened = own.iter().find_map(|stanza| {
                let mut keys = self.0.iter();
                let plain = keys.find_map(|key| age::decrypt(key, &stanza.body).ok())?;
                let bytes = <[u8; 16]>::try_from(plain).ok()?;
                Some(FileKey::init_with_mut(|key| key.copy_from_slice(&bytes)))
            });
            if let Some(key) = opened {
                found.insert(index, Ok(key));
            }
        }
        Ok(found)
    }
}

fn main() -> io::Result<()> {
    if let Some(machine) = std::env::args().nth(1) {
        let machine = machine.trim_start_matches("--age-plugin=");
        return run_state_machine(machine, Handler);
    }
    let key = x25519::Identity::generate();
    let secret = key.to_string();
    let public = key.to_public().to_string();
    print_new_identity(NAME, secret.expose_secret().as_bytes(), public.as_bytes());
    Ok(())
}
