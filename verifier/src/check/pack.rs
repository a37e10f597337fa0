//! One pack, opened by itself; and what the index says of it, held against its own footer.

use std::collections::HashMap;

use bytes::Bytes;
use keephold_vault::Error;
use keephold_vault::ids::{BlobId, PackId, VaultId};
use keephold_vault::index::BlobRow;
use keephold_vault::pack::{FramePlace, OpenPack};
use keephold_vault::read::Opener;

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::integrity::blocking;
use super::needed::{Claims, Needed, Place};
use super::object::{Kind, Object};
use crate::report::catalogue::{self as code, Code};

/// A pack that was opened.
pub(super) struct Opened {
    pub(super) blobs: u64,
    /// What its footer says of its blobs, if an index says something else.
    pub(super) differs: Option<HashMap<BlobId, FramePlace>>,
}

/// What is wrong with an object, or with the way to it.
pub(super) enum Wrong {
    Object(&'static Code, String),
    Target(Error),
}

/// Opens a pack through its own header and footer, and recomputes every blob's id.
pub(super) async fn open(
    context: &Context<'_>,
    id: PackId,
    bytes: Bytes,
    places: Vec<Place>,
) -> Result<Opened, Wrong> {
    let (opener, vault) = (context.opener.clone(), context.vault.id());
    let opened = blocking(move || open_now(&opener, vault, &id, &bytes, &places))
        .await
        .map_err(Wrong::Target)?;
    opened.map_err(|error| match &error {
        Error::Damaged { why, .. } if why.contains("has other contents than its id says") => {
            Wrong::Object(&code::BLOB_DIFFERS, told(&error))
        }
        error if is_about_object(error) => Wrong::Object(&code::PACK_UNREADABLE, told(error)),
        _ => Wrong::Target(error),
    })
}

fn open_now(
    opener: &Opener,
    vault: VaultId,
    id: &PackId,
    bytes: &[u8],
    places: &[Place],
) -> Result<Opened, Error> {
    let header = OpenPack::header(id, bytes)?;
    let keys = opener.keys(&header.envelope, &format!("pack {id}"))?;
    let mut pack = OpenPack::open(id, bytes, vault, &keys.run)?;
    let (blobs, _) = pack.check_blobs(bytes, &keys.secret.blob_namer())?;
    let mut claims = Claims::default();
    rows(&pack).for_each(|row| claims.add(&row));
    let same = places.iter().all(|place| place.claims == claims);
    let footer = || rows(&pack).map(|row| (row.id, row.place)).collect();
    Ok(Opened { blobs, differs: (!same).then(footer) })
}

/// What a pack's footer says of its blobs, as an index would.
fn rows(pack: &OpenPack) -> impl Iterator<Item = BlobRow> + '_ {
    pack.frames().iter().flat_map(|frame| {
        let mut offset = 0;
        frame.blobs.iter().map(move |&(id, length)| {
            let place = FramePlace {
                frame_offset: frame.offset,
                frame_stored: frame.stored,
                offset,
                length,
            };
            offset += length;
            BlobRow { id, pack: 0, place }
        })
    })
}

/// An index that says something else of a pack than its footer is right as long as it says less: a blob that two packs
/// hold is described once. A place where the blob isn't makes every restore that trusts it fail.
pub(super) async fn compare_index(
    context: &Context<'_>,
    object: &Object,
    footer: &HashMap<BlobId, FramePlace>,
    needed: &Needed,
    findings: &mut Findings,
) {
    let Kind::Pack(_, places) = &object.kind else { return };
    for place in places {
        let id = needed.segments[place.segment as usize].id;
        let key = format!("index/{id}");
        let wrong = match needed.blobs_of(context, place).await {
            Ok(rows) => {
                rows.iter().find(|row| footer.get(&row.id) != Some(&row.place)).map(|row| {
                    format!(
                        "it says that blob {} lies at byte {} of {}, where it isn't",
                        row.id, row.place.frame_offset, object.key
                    )
                })
            }
            Err(error) => Some(told(&error)),
        };
        if let Some(why) = wrong {
            let summary = format!("The index segment contradicts {}.", object.key);
            findings.add(&code::INDEX_CORRUPT, &key, summary, Some(why));
        }
    }
}
