output "lab" {
  description = "The lab as the inventory plugin reads it."
  value = {
    name    = var.lab_name
    network = local.network
    user    = var.user
    key     = trimsuffix(local.key_file, ".pub")
    machines = {
      for name, machine in local.machines : name => {
        group = machine.group
        index = machine.index
      }
    }
  }
  # Only when the machines answer is the inventory right.
  depends_on = [terraform_data.reachable]
}

output "page" {
  description = "Where the page will be, once Ansible has run."
  value       = [for machine in local.machines : "https://${machine.address}" if machine.group == "frontend"]
}
