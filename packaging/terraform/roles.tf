# The five roles of this account. `trust` says who may take each: an instance profile, IAM Roles Anywhere, another account.

resource "aws_iam_role" "role" {
  for_each           = toset(["writer", "verifier", "pruner", "prober", "replicator"])
  name               = "${var.role_prefix}-${each.key}"
  assume_role_policy = var.trust[each.key]
}

resource "aws_iam_role_policy" "role" {
  for_each = aws_iam_role.role
  name     = "keephold"
  role     = each.value.id
  policy   = templatefile("${path.module}/../iam/role-${each.key}.json", local.names)
}
