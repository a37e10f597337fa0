variable "bucket" {
  description = "The vault's bucket."
  type        = string
}

variable "prefix" {
  description = "Where the vault begins in the bucket; empty for the whole bucket, which is best."
  type        = string
  default     = ""
}

variable "evidence_bucket" {
  description = "The verifier's own bucket, for its reports."
  type        = string
}

variable "replica_bucket" {
  description = "The copy's bucket, in the account and region of the provider aws.replica."
  type        = string
}

variable "replica_account" {
  description = "The twelve digits of the account that holds the copy."
  type        = string
}

variable "replica_storage_class" {
  description = "How the copy is stored."
  type        = string
  default     = "STANDARD_IA"
}

variable "role_prefix" {
  description = "What the roles' names begin with."
  type        = string
  default     = "keephold"
}

variable "trust" {
  description = "Who may take each role (writer, verifier, pruner, prober, replicator; copy_verifier, in the account of the copy): an assume-role policy as JSON."
  type        = map(string)
}

variable "max_lock_days" {
  description = "Longest lock that the writer may set: a little more than the longest `keep` or `evidence`."
  type        = number
  default     = 450
}

variable "default_retention_days" {
  description = "Lock of whatever is written without one; shorter than any run is kept."
  type        = number
  default     = 7
}

variable "evidence_retention_days" {
  description = "Lock of reports: the audit period and some."
  type        = number
  default     = 400
}
