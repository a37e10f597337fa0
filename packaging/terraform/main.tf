# A bucket for a Keephold vault: locked, versioned, encrypted in transit, copied to another region and account.
# The policies are those of ../iam, the same that `keephold policy` prints.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source                = "hashicorp/aws"
      version               = ">= 5.70"
      configuration_aliases = [aws.replica]
    }
  }
}

locals {
  prefix = var.prefix == "" ? "" : "${trim(var.prefix, "/")}/"
  names = {
    bucket        = var.bucket
    prefix        = local.prefix
    copy          = var.replica_bucket
    copy_prefix   = local.prefix
    evidence      = var.evidence_bucket
    max_lock_days = tostring(var.max_lock_days)
    writer        = aws_iam_role.role["writer"].arn
    verifier      = aws_iam_role.role["verifier"].arn
    pruner        = aws_iam_role.role["pruner"].arn
    prober        = aws_iam_role.role["prober"].arn
    replicator    = aws_iam_role.role["replicator"].arn
  }
}

# Object Lock at creation: it can't be taken away again, and implies versioning.
resource "aws_s3_bucket" "vault" {
  bucket              = var.bucket
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "vault" {
  bucket = aws_s3_bucket.vault.id
  versioning_configuration {
    status = "Enabled"
  }
}

# A net below the locks that each write carries: short, so that leftovers of broken runs can be pruned.
resource "aws_s3_bucket_object_lock_configuration" "vault" {
  bucket = aws_s3_bucket.vault.id
  rule {
    default_retention {
      mode = "COMPLIANCE"
      days = var.default_retention_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.vault]
}

resource "aws_s3_bucket_public_access_block" "vault" {
  bucket                  = aws_s3_bucket.vault.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "vault" {
  bucket = aws_s3_bucket.vault.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Versions are deleted by `keephold prune` alone, which knows what is needed. Rules only tidy what it never sees.
resource "aws_s3_bucket_lifecycle_configuration" "vault" {
  bucket = aws_s3_bucket.vault.id
  rule {
    id     = "delete-markers-that-hide-nothing"
    status = "Enabled"
    filter {}
    expiration {
      expired_object_delete_marker = true
    }
  }
  rule {
    id     = "uploads-that-were-given-up"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
  depends_on = [aws_s3_bucket_versioning.vault]
}

# TLS only; what no role may ever do; If-None-Match on each write; a bound for locks.
resource "aws_s3_bucket_policy" "vault" {
  bucket     = aws_s3_bucket.vault.id
  policy     = templatefile("${path.module}/../iam/bucket-aws.json", local.names)
  depends_on = [aws_s3_bucket_public_access_block.vault]
}

# The verifier's own bucket, for its reports: as locked as the vault.
resource "aws_s3_bucket" "evidence" {
  bucket              = var.evidence_bucket
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  rule {
    default_retention {
      mode = "COMPLIANCE"
      days = var.evidence_retention_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.evidence]
}

resource "aws_s3_bucket_public_access_block" "evidence" {
  bucket                  = aws_s3_bucket.evidence.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "evidence" {
  bucket = aws_s3_bucket.evidence.id
  rule {
    id     = "delete-markers-that-hide-nothing"
    status = "Enabled"
    filter {}
    expiration {
      expired_object_delete_marker = true
    }
  }
  rule {
    id     = "uploads-that-were-given-up"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
  depends_on = [aws_s3_bucket_versioning.evidence]
}

# TLS only, and a verifier that only adds.
resource "aws_s3_bucket_policy" "evidence" {
  bucket     = aws_s3_bucket.evidence.id
  policy     = templatefile("${path.module}/../iam/evidence-aws.json", local.names)
  depends_on = [aws_s3_bucket_public_access_block.evidence]
}
