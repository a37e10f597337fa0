//! Commands that mend what was found, with the real names in them.

use std::path::Path;

use keephold_cli::target::Target;
use keephold_vault::store::TargetUrl;

/// Names that commands need.
#[derive(Debug)]
pub(super) struct Mender {
    bucket: String,
    url: String,
    /// `aws`, told of the server.
    aws: String,
    server: Kind,
}

/// Whose policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Amazon,
    MinIo,
    /// Others take bucket policies.
    Other,
}

impl Mender {
    /// `None` for a folder.
    pub(super) fn new(target: &Target) -> Option<Self> {
        let TargetUrl::S3 { bucket, .. } = &target.url else { return None };
        let named = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let endpoint = target
            .options
            .endpoint
            .clone()
            .or_else(|| named("AWS_ENDPOINT_URL_S3"))
            .or_else(|| named("AWS_ENDPOINT_URL"));
        let other = endpoint.as_ref().is_some_and(|e| !e.contains("amazonaws.com"));
        let aws = match &endpoint {
            Some(endpoint) => format!("aws --endpoint-url {endpoint} s3api"),
            None => "aws s3api".into(),
        };
        let server = if other { Kind::Other } else { Kind::Amazon };
        Some(Self { bucket: bucket.clone(), url: target.url.to_string(), aws, server })
    }

    /// Learns what the server calls itself.
    pub(super) fn learn(&mut self, server: Option<&str>) {
        match server {
            Some(name) if name.starts_with("MinIO") => self.server = Kind::MinIo,
            Some(name) if name.starts_with("AmazonS3") => self.server = Kind::Amazon,
            _ => {}
        }
    }

    /// Whether the server's policies can bound how long the lock of a write may last. MinIO bounds extensions only.
    pub(super) fn can_bound_locks(&self) -> bool {
        self.server == Kind::Amazon
    }

    /// Gives the writer its policy, with locks of at most so many days, and no more. To be run as the bucket's owner.
    pub(super) fn policy(&self, max: i64) -> String {
        let Self { bucket, url, aws, .. } = self;
        match self.server {
            Kind::Amazon => format!(
                "# as the bucket's owner; WRITER is the ARN of this host's user or role, which then has no other policy:\n\
                 keephold policy writer --vault {url} --max-lock {max} > writer.json\n\
                 keephold policy bucket --vault {url} --max-lock {max} --writer WRITER > bucket.json\n\
                 aws iam put-role-policy --role-name NAME --policy-name keephold --policy-document file://writer.json\n\
                 {aws} put-bucket-policy --bucket {bucket} --policy file://bucket.json"
            ),
            Kind::MinIo => format!(
                "# as the server's administrator; USER is this host's user, which then has no other policy:\n\
                 keephold policy writer --server minio --vault {url} --max-lock {max} > writer.json\n\
                 mc admin policy create ALIAS keephold-writer writer.json\n\
                 mc admin policy attach ALIAS keephold-writer --user USER"
            ),
            Kind::Other => format!(
                "# as the bucket's owner; WRITER is a user of this host's own, not the owner (arn:aws:iam:::user/NAME):\n\
                 keephold policy bucket --server ceph --vault {url} --writer WRITER > bucket.json\n\
                 {aws} put-bucket-policy --bucket {bucket} --policy file://bucket.json"
            ),
        }
    }

    /// Makes the bucket.
    pub(super) fn make(&self) -> String {
        let Self { bucket, aws, .. } = self;
        format!("{aws} create-bucket --bucket {bucket} --object-lock-enabled-for-bucket")
    }

    pub(super) fn versioning(&self) -> String {
        let Self { bucket, aws, .. } = self;
        format!(
            "{aws} put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled"
        )
    }

    pub(super) fn object_lock(&self) -> String {
        let Self { bucket, aws, .. } = self;
        format!(
            "# most servers lock only buckets that were made for it, so make another and move there:\n\
             {aws} create-bucket --bucket {bucket}-locked --object-lock-enabled-for-bucket\n\
             # Amazon can also enable it on this one, once it keeps versions:\n\
             {aws} put-object-lock-configuration --bucket {bucket} --object-lock-configuration ObjectLockEnabled=Enabled"
        )
    }

    pub(super) fn default_retention(&self) -> String {
        let Self { bucket, aws, .. } = self;
        format!(
            "{aws} put-object-lock-configuration --bucket {bucket} --object-lock-configuration ObjectLockEnabled=Enabled"
        )
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%".contains(c);
    if text.chars().all(plain) && !text.is_empty() {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("/etc/keephold/keys")), "/etc/keephold/keys");
        assert_eq!(quoted(Path::new("/my 'keys'")), r"'/my '\''keys'\'''");
    }
}
