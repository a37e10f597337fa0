//! A vault on Ceph's gateway whose buckets are under the packaged policies, and whose roles have a user each.

use serde_json::{Value, json};

use super::calls::ROLES;
use super::program::{Program, binary};
use super::{Place, Site, s3};

/// The buckets that policies name beside the vault's.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    pub(crate) evidence: String,
    pub(crate) copy: String,
}

/// A policy as the program prints it for a server, every role named.
pub(crate) fn printed(site: &Site, what: &str, server: &str, buckets: &Buckets) -> Value {
    let mut print = Program::new(binary("keephold"), &site.path("home"))
        .args(["policy", what, "--server", server, "--evidence", &buckets.evidence, "--vault"])
        .args([&site.url, "--copy", &format!("s3://{}/main", buckets.copy)]);
    for role in ROLES {
        let role = role.to_lowercase();
        print = print.arg(format!("--{role}")).arg(format!("arn:aws:iam:::user/{role}"));
    }
    print.run().ok().json()
}

/// The packaged policy of a site's own bucket, for where the others don't matter.
pub(crate) fn vault_policy(site: &Site) -> Value {
    let unused = || "unused".to_owned();
    printed(site, "bucket", "ceph", &Buckets { evidence: unused(), copy: unused() })
}

/// A site whose buckets are under the packaged policies, and which acts as the writer. No vault yet.
pub(crate) fn site(lock: &'static str) -> (Site, Buckets) {
    let mut site = Site::bare(Place::Ceph, lock);
    let buckets =
        Buckets { evidence: s3::bucket(site.place, true), copy: s3::bucket(site.place, true) };
    for (bucket, what) in
        [(&site.bucket, "bucket"), (&buckets.evidence, "evidence"), (&buckets.copy, "copy")]
    {
        s3::policy(site.place, bucket, &printed(&site, what, "ceph", &buckets));
    }
    act_as(&mut site, "WRITER");
    (site, buckets)
}

/// Ends locks that last no more than a day or two, as time would. That takes more than any role may: on Ceph whoever puts
/// an object owns it, so for a moment a policy gives the bucket's owner every right.
pub(crate) fn time_passes(site: &Site) {
    let packaged = vault_policy(site);
    let mut meanwhile = packaged.clone();
    let bucket = format!("arn:aws:s3:::{}", site.bucket);
    meanwhile["Statement"].as_array_mut().unwrap().push(json!({
        "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam:::user/owner"}, "Action": "s3:*",
        "Resource": [bucket, format!("{bucket}/*")],
    }));
    s3::policy(site.place, &site.bucket, &meanwhile);
    crate::prune::time_passes(site);
    s3::policy(site.place, &site.bucket, &packaged);
}

/// What is done from now on is done with a role's credential.
pub(crate) fn act_as(site: &mut Site, role: &str) {
    site.credential = Some(site.place.credential(role));
}
