//! Where secrets and salts come from in a simulation: its seed, so that objects have the same names in each replay.
//!
//! This module is compiled for this crate's own unit tests alone (`cfg(test)`), not even for the tests of other crates:
//! no program has a way to it. A thread takes from a seed only while [`Source::enter`]'s guard lives on it, or on the
//! thread that started it.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use bech32::{Bech32, Hrp};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use sha2::{Digest, Sha256};

thread_local! {
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// The random bytes of one simulation.
#[derive(Clone)]
pub(super) struct Source(Arc<Mutex<blake3::OutputReader>>);

/// Until it is dropped, this thread takes from a seed.
pub(super) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        SOURCE.set(None);
    }
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("keephold simulation: random bytes");
        Self(Arc::new(Mutex::new(hasher.update(&seed.to_le_bytes()).finalize_xof())))
    }

    #[must_use]
    pub(super) fn enter(self) -> Entered {
        SOURCE.set(Some(self));
        Entered
    }
}

/// Whether this thread belongs to a simulation.
pub(crate) fn is_seeded() -> bool {
    SOURCE.with_borrow(Option::is_some)
}

/// Fills `bytes` from the seed; answers `false`, and does nothing, where this thread belongs to no simulation.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    SOURCE.with_borrow(|source| {
        let Some(Source(stream)) = source else { return false };
        stream.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
        true
    })
}

/// Work for a new thread, which belongs to the simulation that this one belongs to.
pub(crate) fn inherited<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let source = SOURCE.with_borrow(Clone::clone);
    move || {
        let _entered = source.map(Source::enter);
        work()
    }
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    assert!(fill(&mut bytes), "this thread belongs to no simulation");
    bytes
}

/// An identity drawn from the seed: its recipient, and the identity itself, as lines of age's files.
pub(super) fn identity() -> (String, String) {
    let secret = drawn::<32>();
    let public = x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
    let line =
        |kind: &str, bytes: &[u8]| bech32::encode::<Bech32>(Hrp::parse(kind).unwrap(), bytes);
    let secret = line("age-secret-key-", &secret).unwrap();
    (line("age", &public).unwrap(), secret.to_ascii_uppercase())
}

/// What the age crate would make of a text for recipients (`age1…`), but with the seed's random bytes: that crate takes
/// none but the system's. Whatever is restored in a simulation is opened by the age crate itself.
/// Format: <https://github.com/C2SP/C2SP/blob/main/age.md>.
///
/// Answers nothing where this thread belongs to no simulation.
pub(crate) fn age_file(text: &[u8], recipients: &[String]) -> Option<Vec<u8>> {
    use base64::prelude::{BASE64_STANDARD_NO_PAD as BASE64, Engine};
    if !is_seeded() {
        return None;
    }
    let file_key = drawn::<16>();
    let mut header = "age-encryption.org/v1\n".to_owned();
    for recipient in recipients {
        let public: [u8; 32] = bech32::decode(recipient).unwrap().1.try_into().unwrap();
        let secret = drawn::<32>();
        let share = x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let shared = x25519_dalek::x25519(secret, public);
        let key = hkdf(&shared, &[share, public].concat(), b"age-encryption.org/v1/X25519");
        let wrapped = seal(&key, [0; 12], &file_key);
        let (share, wrapped) = (BASE64.encode(share), BASE64.encode(wrapped));
        header += &format!("-> X25519 {share}\n{wrapped}\n");
    }
    header += "---";
    let mac = hmac(&hkdf(&file_key, &[], b"header"), header.as_bytes());
    let nonce = drawn::<16>();
    let mut last = [0; 12];
    last[11] = 1;
    let mut file = format!("{header} {}\n", BASE64.encode(mac)).into_bytes();
    file.extend_from_slice(&nonce);
    file.extend_from_slice(&seal(&hkdf(&file_key, &nonce, b"payload"), last, text));
    Some(file)
}

fn seal(key: &[u8; 32], nonce: [u8; 12], text: &[u8]) -> Vec<u8> {
    ChaCha20Poly1305::new(key.into()).encrypt(Nonce::from_slice(&nonce), text).unwrap()
}

/// HKDF with SHA-256 (RFC 5869), one block.
fn hkdf(secret: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    hmac(&hmac(salt, secret), &[info, &[1]].concat())
}

/// HMAC with SHA-256 (RFC 2104), for keys of up to one block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message);
    let outer = Sha256::new().chain_update(block.map(|b| b ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{self, Identities, Recipients, RunKeys};
    use crate::ids::VaultId;
    use crate::keys::{RunKey, VaultSecret, random};

    fn envelope_of(seed: u64) -> (Vec<u8>, String) {
        let _entered = Source::new(seed).enter();
        let (public, secret) = identity();
        let keys = RunKeys {
            vault: VaultId::from_bytes([1; 16]),
            run: RunKey::generate().unwrap(),
            secret: VaultSecret::from_bytes([2; 32]),
        };
        (envelope::seal(&keys, &Recipients::parse(&public).unwrap()).unwrap(), secret)
    }

    #[test]
    fn a_seed_gives_the_same_envelope_again_and_age_opens_it() {
        let (sealed, secret) = envelope_of(7);
        assert_eq!(envelope_of(7).0, sealed);
        assert_ne!(envelope_of(8).0, sealed);
        let opened = envelope::open(&sealed, &Identities::parse(&secret).unwrap(), "it").unwrap();
        assert_eq!(opened.secret, VaultSecret::from_bytes([2; 32]));
    }

    #[test]
    fn only_threads_of_a_simulation_take_from_its_seed() {
        let entered = Source::new(7).enter();
        let first = random::<16>().unwrap();
        let others = std::thread::spawn(|| (is_seeded(), random::<16>().unwrap())).join().unwrap();
        let heir = std::thread::spawn(inherited(|| random::<16>().unwrap())).join().unwrap();
        drop(entered);
        assert!(!is_seeded() && !others.0);
        let _entered = Source::new(7).enter();
        assert_eq!([first, heir], [random::<16>().unwrap(), random::<16>().unwrap()]);
        assert!(others.1 != first && others.1 != heir);
    }
}
