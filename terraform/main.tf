locals {
  root      = abspath("${path.module}/..")
  directory = "${local.root}/.lab/${var.lab_name}"
  prefix    = "hl-${var.lab_name}"

  # The same network that Ansible's filter lab_network derives from the name.
  digest  = sha256(var.lab_name)
  network = coalesce(var.lab_network, format("10.%d.%d.0/24", 64 + parseint(substr(local.digest, 0, 2), 16) % 64, parseint(substr(local.digest, 2, 2), 16)))

  # Every machine by its name, so that a change of a count touches no other machine; index is its place in the network.
  groups = yamldecode(file("${local.root}/inventories/group_vars/lab/services.yml")).lab_groups
  counts = {
    control  = var.control_count
    database = var.database_count
    backend  = var.backend_instance_count
    frontend = var.frontend_count
  }
  places = { for group, of in local.groups : group => flatten([for run in chunklist(of.indexes, 2) : range(run[0], run[1] + 1)]) }
  machines = merge([
    for group, of in local.groups : {
      for number in range(lookup(local.counts, group, 1)) : "${group}-${number + 1}" => {
        group   = group
        index   = local.places[group][number]
        address = cidrhost(local.network, local.places[group][number])
        mac     = format("52:54:%02x:%02x:%02x:%02x", split(".", cidrhost(local.network, local.places[group][number]))...)
        memory  = lookup(var.memory_mib, group, of.memory)
      }
    }
  ]...)
  # What QEMU takes for each machine at least; where it emulates, it keeps translated code (emulation.xsl.tftpl), and is
  # faster with more of it. Of the computer alone, so that one machine more does not change the others.
  translated_mib = data.libvirt_node_info.host.memory_total_kb >= 15 * 1024 * 1024 ? 1024 : 128
  memory_mib     = sum([for machine in local.machines : machine.memory + (local.domain_type == "kvm" ? 64 : 192)])

  # Whose the machines are: this clone's, by the id that `make vm-prepare` has given to the lab (plugins/module_utils/lab_owner.py).
  lab   = try(jsondecode(file("${local.directory}/lab.json")), { id = "", kind = "terraform" })
  owner = jsonencode({ folder = local.root, id = local.lab.id, user = basename(pathexpand("~")) })

  key_file = coalesce(var.ssh_public_key, "${local.directory}/ssh/id_ed25519.pub")
  image    = var.image != "" ? var.image : try(jsondecode(file("${local.root}/.lab/images.json")).image, "")

  # /dev/kvm alone proves nothing: it is there on virtual machines that cannot use it.
  processor_has_kvm = can(regex("(?m)^flags\\s.*\\s(vmx|svm)(\\s|$)", file("/proc/cpuinfo"))) && !can(fileexists("/dev/kvm"))
  domain_type       = var.accelerator == "kvm" || var.accelerator == "auto" && local.processor_has_kvm ? "kvm" : "qemu"
}

data "libvirt_node_info" "host" {
  lifecycle {
    postcondition {
      condition     = self.memory_total_kb / 1024 >= local.memory_mib + 512
      error_message = "The machines need ${local.memory_mib} MiB of memory together, and libvirt's computer has ${floor(self.memory_total_kb / 1024)} MiB in all: lower memory_mib or the counts, or take the small profile (-var-file=small.tfvars)."
    }
  }
}

# Refuses a lab that stands already and is another clone's, before anything is made.
resource "terraform_data" "owner" {
  count = var.libvirt_uri == "qemu:///system" ? 1 : 0

  provisioner "local-exec" {
    command = "cd '${local.root}' && tools/venv.sh && .venv/bin/python -m tools.vm owner terraform --name=${var.lab_name}"
  }
}

resource "libvirt_network" "lab" {
  name      = local.prefix
  mode      = "nat"
  addresses = [local.network]
  autostart = true
  # Names outside are answered through libvirt's dnsmasq; the lab's own come from Consul.
  dns {
    enabled    = true
    local_only = false
  }
  dhcp {
    enabled = false
  }

  depends_on = [terraform_data.owner]

  lifecycle {
    precondition {
      condition     = local.lab.kind == "terraform"
      error_message = "Lab '${var.lab_name}' of this clone is of kind ${local.lab.kind}, and this is for kind terraform: take another lab_name."
    }
    precondition {
      condition     = local.image != "" && (can(regex("^https?://", local.image)) || fileexists(local.image))
      error_message = "There is no image %{if local.image != ""}at ${local.image}%{else}yet%{endif}: run 'make image', or set image to the path or address of a qcow2 with cloud-init."
    }
    precondition {
      condition     = fileexists(local.key_file)
      error_message = "There is no public key at ${local.key_file}: run 'make vm-prepare', or 'ssh-keygen -t ed25519 -N \"\" -f ${trimsuffix(local.key_file, ".pub")}'."
    }
    precondition {
      condition     = data.libvirt_node_info.host.cpu_cores_total >= 1
      error_message = "libvirt's computer names no processor: see that libvirt_uri is right."
    }
  }
}

resource "libvirt_pool" "lab" {
  name = local.prefix
  type = "dir"
  target {
    path = coalesce(var.pool_path, "/var/lib/libvirt/hashistack-lab/${var.lab_name}")
  }

  # Only where the network could be made: what is missing is said before anything stands.
  depends_on = [libvirt_network.lab]
}

# The image that each machine was made from. It is the machine's as long as that stands: another image is for new ones.
resource "terraform_data" "image" {
  for_each = local.machines

  input = local.image

  lifecycle {
    ignore_changes = [input]
  }
}

# Each image that a machine stands on, once; it goes with the last of them.
resource "libvirt_volume" "image" {
  for_each = toset([for machine in terraform_data.image : machine.input])

  name   = "image-${substr(sha256(each.key), 0, 12)}.qcow2"
  pool   = libvirt_pool.lab.name
  source = each.key
  format = "qcow2"
}

# Labs of before had one image. Its file stays, for their disks lie on it.
removed {
  from = libvirt_volume.base
  lifecycle {
    destroy = false
  }
}

resource "libvirt_volume" "disk" {
  for_each = local.machines

  name           = "${each.key}.qcow2"
  pool           = libvirt_pool.lab.name
  base_volume_id = libvirt_volume.image[terraform_data.image[each.key].input].id
  size           = var.disk_gib * 1024 * 1024 * 1024
  format         = "qcow2"

  lifecycle {
    ignore_changes       = [base_volume_id, size] # Of a new disk only.
    replace_triggered_by = [terraform_data.image[each.key]]
  }
}

# What cloud-init reads at a machine's first start, so that a change is for new ones. Nothing secret: a name, an address, a
# public key. Not the provider's own libvirt_cloudinit_disk, which reads each one back in each plan, and may hang in that.
resource "terraform_data" "seed" {
  for_each = local.machines

  input = {
    file = "${local.directory}/seeds/${each.key}.iso"
    meta_data = yamlencode({
      instance-id    = "${local.prefix}-${each.key}"
      local-hostname = each.key
    })
    user_data = "#cloud-config\n${yamlencode({
      hostname         = each.key
      manage_etc_hosts = true
      ssh_pwauth       = false
      users = [{
        name                = var.user
        shell               = "/bin/bash"
        sudo                = "ALL=(ALL) NOPASSWD:ALL"
        lock_passwd         = true
        ssh_authorized_keys = [trimspace(file(local.key_file))]
      }]
    })}"
    network_config = yamlencode({
      version = 2
      ethernets = {
        eth0 = {
          match       = { macaddress = each.value.mac }
          set-name    = "eth0"
          addresses   = ["${each.value.address}/${split("/", local.network)[1]}"]
          nameservers = { addresses = [cidrhost(local.network, 1)] }
          routes      = [{ to = "0.0.0.0/0", via = cidrhost(local.network, 1) }]
        }
      }
    })
  }

  provisioner "local-exec" {
    command = "sh ${path.module}/make-seed.sh '${self.input.file}'"
    environment = {
      META_DATA      = self.input.meta_data
      USER_DATA      = self.input.user_data
      NETWORK_CONFIG = self.input.network_config
    }
  }

  lifecycle {
    ignore_changes       = [input]
    replace_triggered_by = [terraform_data.image[each.key]]
  }
  # What is missing is said first, as for the pool.
  depends_on = [libvirt_pool.lab]
}

resource "libvirt_volume" "seed" {
  for_each = local.machines

  name   = "${each.key}-seed.iso"
  pool   = libvirt_pool.lab.name
  source = terraform_data.seed[each.key].output.file
  format = "iso"

  lifecycle {
    ignore_changes       = [source]
    replace_triggered_by = [terraform_data.seed[each.key]]
  }
}

# Machines of before keep theirs.
removed {
  from = libvirt_cloudinit_disk.seed
  lifecycle {
    destroy = false
  }
}

resource "libvirt_domain" "machine" {
  for_each = local.machines

  name        = "${local.prefix}-${each.key}"
  description = local.owner
  type        = local.domain_type
  memory      = each.value.memory
  vcpu        = var.vcpus
  autostart   = false

  dynamic "cpu" {
    for_each = local.domain_type == "kvm" ? ["host-passthrough"] : []
    content {
      mode = cpu.value
    }
  }

  disk {
    volume_id = libvirt_volume.disk[each.key].id
  }
  # As a plain disk, since Debian's cloud kernel has no driver for the drive that `cloudinit` would make.
  disk {
    volume_id = libvirt_volume.seed[each.key].id
  }
  network_interface {
    network_id = libvirt_network.lab.id
    mac        = each.value.mac
  }
  console {
    type        = "pty"
    target_type = "serial"
    target_port = "0"
  }
  video {
    type = "none"
  }

  dynamic "xml" {
    for_each = local.domain_type == "kvm" ? [] : [templatefile("${path.module}/emulation.xsl.tftpl", { cache_mib = local.translated_mib })]
    content {
      xslt = xml.value
    }
  }

  lifecycle {
    ignore_changes       = [description, xml, disk]
    replace_triggered_by = [libvirt_volume.disk[each.key]] # The provider alone would leave it on the old disk.
  }
}

# A machine is there when ssh answers. Its host key is pinned at this first contact, over the lab's own network.
resource "terraform_data" "reachable" {
  for_each = { for name, machine in local.machines : name => machine if var.boot_seconds > 0 }

  triggers_replace = [libvirt_domain.machine[each.key].id]
  input = {
    known_hosts = "${local.directory}/ssh/known_hosts.${each.value.address}"
  }

  provisioner "local-exec" {
    command = "sh ${path.module}/wait-for-ssh.sh ${var.user} ${each.value.address} ${trimsuffix(local.key_file, ".pub")} ${self.input.known_hosts} ${var.boot_seconds}"
  }

  provisioner "local-exec" {
    when    = destroy
    command = "rm -f ${self.input.known_hosts}"
  }
}
