output "roles" {
  description = "The ARN of each role."
  value = merge(
    { for name, role in aws_iam_role.role : name => role.arn },
    { copy_verifier = aws_iam_role.copy_verifier.arn }
  )
}

output "vault" {
  description = "The vault's URL."
  value       = trimsuffix("s3://${var.bucket}/${local.prefix}", "/")
}
