//! The price list of the configuration, and what a run costs by it. Without a list no cost is told.

use anyhow::Result;
use keephold_cli::exit::usage;
use keephold_vault::record::Cost;
use keephold_vault::store::Calls;
use serde::Deserialize;

/// Bytes of the gigabyte that providers charge for.
const GIGABYTE: f64 = 1e9;

/// What a provider charges.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Prices {
    /// What amounts are in, for example `USD`.
    pub(crate) currency: Option<String>,
    /// For 1,000 writes, of objects and of locks.
    pub(crate) put: Option<f64>,
    /// For 1,000 reads, and questions that answer no content.
    pub(crate) get: Option<f64>,
    /// For 1,000 pages of listings.
    pub(crate) list: Option<f64>,
    /// For a gigabyte (10⁹ bytes) that is stored for a month.
    pub(crate) storage_gb_month: Option<f64>,
}

impl Prices {
    /// Refuses what can't be a price; `table` is where they stand.
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        for (name, price) in [
            ("put", self.put),
            ("get", self.get),
            ("list", self.list),
            ("storage_gb_month", self.storage_gb_month),
        ] {
            if price.is_some_and(|p| !p.is_finite() || p < 0.0) {
                return Err(usage(format!("{table}.{name} can't be a price: write 0 or more")));
            }
        }
        Ok(())
    }

    /// What a run costs; `None` unless every price that it takes is known: half a sum would mislead.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn cost(&self, calls: Option<&Calls>, bytes_stored: u64) -> Option<Cost> {
        let (put, get, list) = (self.put?, self.get?, self.list?);
        let calls = calls?;
        let thousands = (calls.put + calls.extend) as f64 * put
            + (calls.get + calls.head) as f64 * get
            + calls.list as f64 * list;
        let month = bytes_stored as f64 / GIGABYTE * self.storage_gb_month?;
        Some(Cost {
            currency: self.currency.clone(),
            calls_millionths: millionths(thousands / 1000.0),
            month_millionths: millionths(month),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative; saturates"
)]
fn millionths(amount: f64) -> u64 {
    (amount * 1e6).round() as u64
}

/// The requests that a target was sent, and their cost, as a run's output tells them.
pub(crate) fn requests(calls: &Calls, cost: Option<&Cost>) -> String {
    let Calls { put, extend, get, list, head } = calls;
    let mut line = format!("{put} put, {extend} extend, {get} get, {list} list, {head} head");
    if let Some(cost) = cost {
        let currency = cost.currency.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
        line.push_str(&format!(
            ": {}{currency}; what was stored costs {}{currency} a month",
            amount(cost.calls_millionths),
            amount(cost.month_millionths)
        ));
    }
    line
}

/// An amount for people: `1.25`, or as many digits as it takes to see anything.
fn amount(millionths: u64) -> String {
    let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
    if whole > 0 { format!("{whole}.{:02}", rest / 10_000) } else { format!("0.{rest:06}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_the_list_says_and_nothing_is_told_without_one() {
        let calls = Calls { put: 300, extend: 700, get: 1_500, list: 2_000, head: 500 };
        let prices = Prices {
            currency: Some("USD".into()),
            put: Some(0.005),
            get: Some(0.0004),
            list: Some(0.005),
            storage_gb_month: Some(0.023),
        };
        let cost = prices.cost(Some(&calls), 2_000_000_000).unwrap();
        // 1,000 × 0.005 + 2,000 × 0.0004 + 2,000 × 0.005, each for a thousand.
        assert_eq!((cost.calls_millionths, cost.month_millionths), (15_800, 46_000));
        assert_eq!(amount(cost.calls_millionths), "0.015800");
        assert_eq!(amount(12_345_678), "12.34");
        for lacking in [
            Prices::default(),
            Prices { list: None, ..prices.clone() },
            Prices { storage_gb_month: None, ..prices.clone() },
        ] {
            assert_eq!(lacking.cost(Some(&calls), 1), None);
        }
        assert_eq!(prices.cost(None, 1), None);
        assert!(Prices { get: Some(f64::NAN), ..prices }.check("prices").is_err());
    }
}
