# Everything; unlike root it is renewed by each run, or dies.
path "*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"]
}
