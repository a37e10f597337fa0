//! Totals over stored objects.

use super::facts::{Fact, classed, fact};
use crate::report::model::{Left, Report, Unneeded};
use crate::report::words;

pub(super) fn objects(report: &Report) -> Vec<Fact> {
    let objects = &report.objects;
    let good = |label, value: Option<u64>| {
        fact(label, value.map_or_else(|| "not counted".to_owned(), words::count))
    };
    let should_be_zero = |label, value: Option<u64>| match value {
        None => classed(label, "not counted", "warn"),
        Some(0) => fact(label, "0"),
        Some(number) => classed(label, words::count(number), "bad"),
    };
    let mut facts = vec![
        good("Needed", objects.needed),
        good("Present", objects.present),
        fact("Size", objects.bytes.map_or_else(|| "not counted".to_owned(), words::bytes)),
        should_be_zero("Missing", objects.missing),
        should_be_zero("Without bytes", objects.zero_byte),
        should_be_zero("Hidden by a delete marker", objects.hidden),
        should_be_zero("Surplus versions", objects.surplus_versions),
        good("Locked", objects.locked),
        should_be_zero("Not locked", objects.unlocked),
        fact(
            "First lock to end",
            objects.soonest_lock_end.map_or_else(|| "none".to_owned(), words::minute),
        ),
    ];
    facts.extend(unneeded(objects.unneeded.as_ref()));
    facts
}

/// What is stored, and no unexpired run needs.
fn unneeded(unneeded: Option<&Unneeded>) -> Vec<Fact> {
    let Some(unneeded) = unneeded else {
        return vec![classed("Not needed by any run", "not counted", "warn")];
    };
    let told = |left: &Left| match left.packs + left.segments {
        0 => "0".to_owned(),
        objects => format!("{} ({})", words::count(objects), words::bytes(left.bytes)),
    };
    let foreign = &unneeded.foreign;
    vec![
        fact("Not needed: of expired runs", told(&unneeded.expired)),
        fact("Not needed: recent", told(&unneeded.recent)),
        fact("Not needed: of unfinished runs", told(&unneeded.unfinished)),
        match foreign.packs + foreign.segments {
            0 => fact("Not of this vault", "0"),
            _ => classed("Not of this vault", told(foreign), "bad"),
        },
    ]
}
