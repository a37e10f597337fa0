# A copy in a second region and account: whoever takes over the first account can't touch it. Locks travel with the
# objects, and so do later changes of them, by Amazon's documentation; `keephold replicate` sees to it that they did.
# Delete markers don't travel: what is hidden here stays in sight there.

data "aws_caller_identity" "current" {}

resource "aws_s3_bucket" "replica" {
  provider            = aws.replica
  bucket              = var.replica_bucket
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "replica" {
  provider = aws.replica
  bucket   = aws_s3_bucket.replica.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "replica" {
  provider = aws.replica
  bucket   = aws_s3_bucket.replica.id
  rule {
    default_retention {
      mode = "COMPLIANCE"
      days = var.default_retention_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.replica]
}

resource "aws_s3_bucket_public_access_block" "replica" {
  provider                = aws.replica
  bucket                  = aws_s3_bucket.replica.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "replica" {
  provider = aws.replica
  bucket   = aws_s3_bucket.replica.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "replica" {
  provider = aws.replica
  bucket   = aws_s3_bucket.replica.id
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
  depends_on = [aws_s3_bucket_versioning.replica]
}

# The other account takes the copies in, and owns them. TLS only; what the replicator may, and what it may never do.
resource "aws_s3_bucket_policy" "replica" {
  provider = aws.replica
  bucket   = aws_s3_bucket.replica.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      jsondecode(templatefile("${path.module}/../iam/copy-aws.json", local.names)).Statement,
      [
        {
          Sid       = "TakeCopies"
          Effect    = "Allow"
          Principal = { AWS = aws_iam_role.replication.arn }
          Action    = ["s3:ReplicateObject", "s3:ReplicateTags", "s3:ObjectOwnerOverrideToBucketOwner"]
          Resource  = "${aws_s3_bucket.replica.arn}/*"
        },
        {
          Sid       = "SeeVersioning"
          Effect    = "Allow"
          Principal = { AWS = aws_iam_role.replication.arn }
          Action    = ["s3:GetBucketVersioning"]
          Resource  = aws_s3_bucket.replica.arn
        }
      ]
    )
  })
  depends_on = [aws_s3_bucket_public_access_block.replica]
}

# A verifier of the second account: it goes on verifying the copy when nobody trusts the first account any more.
resource "aws_iam_role" "copy_verifier" {
  provider           = aws.replica
  name               = "${var.role_prefix}-copy-verifier"
  assume_role_policy = var.trust["copy_verifier"]
}

resource "aws_iam_role_policy" "copy_verifier" {
  provider = aws.replica
  name     = "keephold"
  role     = aws_iam_role.copy_verifier.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      for statement in jsondecode(templatefile("${path.module}/../iam/role-verifier.json", local.names)).Statement :
      statement if endswith(statement.Sid, "TheCopy")
    ]
  })
}

# Only S3, and only on behalf of this account's bucket.
resource "aws_iam_role" "replication" {
  name = "${var.role_prefix}-replication"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnEquals    = { "aws:SourceArn" = aws_s3_bucket.vault.arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  name = "replicate"
  role = aws_iam_role.replication.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        Resource = aws_s3_bucket.vault.arn
      },
      {
        Effect = "Allow"
        Action = [
          "s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention", "s3:GetObjectLegalHold"
        ]
        Resource = "${aws_s3_bucket.vault.arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = ["s3:ReplicateObject", "s3:ReplicateTags", "s3:ObjectOwnerOverrideToBucketOwner"]
        Resource = "${aws_s3_bucket.replica.arn}/*"
      }
    ]
  })
}

resource "aws_s3_bucket_replication_configuration" "vault" {
  bucket = aws_s3_bucket.vault.id
  role   = aws_iam_role.replication.arn
  rule {
    id     = "everything"
    status = "Enabled"
    filter {}
    delete_marker_replication {
      status = "Disabled"
    }
    destination {
      bucket        = aws_s3_bucket.replica.arn
      account       = var.replica_account
      storage_class = var.replica_storage_class
      access_control_translation {
        owner = "Destination"
      }
    }
  }
  depends_on = [aws_s3_bucket_versioning.vault, aws_s3_bucket_versioning.replica, aws_s3_bucket_policy.replica]
}
