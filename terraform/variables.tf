variable "lab_name" {
  description = "The lab's name. Its network, the names of its machines and its folder .lab/NAME follow from it."
  type        = string
  default     = "terraform"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,9}[a-z0-9])?$", var.lab_name))
    error_message = "lab_name must be 1 to 11 characters of a-z, 0-9 and '-', begin with a letter and end with a letter or digit, such as lab_name=test."
  }
}

variable "control_count" {
  description = "How many machines run Consul's servers and Vault."
  type        = number
  default     = 3

  validation {
    condition     = contains([1, 3, 5], var.control_count)
    error_message = "control_count must be 1, 3 or 5: a quorum needs an odd number, and more than 5 voters only slow it down."
  }
}

variable "database_count" {
  description = "How many machines run PostgreSQL: one is the primary, the others follow it."
  type        = number
  default     = 2

  validation {
    condition     = contains([1, 2, 3], var.database_count)
    error_message = "database_count must be 1, 2 or 3: one machine is written to, and each more makes each write wait."
  }
}

variable "backend_instance_count" {
  description = "How many machines run the backend."
  type        = number
  default     = 2

  validation {
    condition     = var.backend_instance_count >= 1 && var.backend_instance_count <= 50 && floor(var.backend_instance_count) == var.backend_instance_count
    error_message = "backend_instance_count must be a whole number from 1 to 50."
  }
}

variable "frontend_count" {
  description = "How many machines show the page."
  type        = number
  default     = 1

  validation {
    condition     = var.frontend_count >= 1 && var.frontend_count <= 20 && floor(var.frontend_count) == var.frontend_count
    error_message = "frontend_count must be a whole number from 1 to 20."
  }
}

variable "memory_mib" {
  description = "Memory of a machine of a group, in MiB; of others as inventories/group_vars/lab/services.yml says."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for mib in values(var.memory_mib) : mib >= 384 && mib <= 65536 && floor(mib) == mib])
    error_message = "memory_mib: each group needs a whole number from 384 to 65536; Consul and Vault do not start with less."
  }
}

variable "vcpus" {
  description = "Processors of each machine."
  type        = number
  default     = 1

  validation {
    condition     = var.vcpus >= 1 && var.vcpus <= 64 && floor(var.vcpus) == var.vcpus
    error_message = "vcpus must be a whole number from 1 to 64."
  }
}

variable "disk_gib" {
  description = "Size of each machine's disk in GiB; at least that of the image."
  type        = number
  default     = 10

  validation {
    condition     = var.disk_gib >= 4 && var.disk_gib <= 1024 && floor(var.disk_gib) == var.disk_gib
    error_message = "disk_gib must be a whole number from 4 to 1024."
  }
}

variable "lab_network" {
  description = "The lab's network, such as 10.213.7.0/24; empty: it follows from the lab's name."
  type        = string
  default     = ""

  validation {
    condition     = var.lab_network == "" || can(cidrhost(var.lab_network, 250)) && can(regex("^[0-9.]+/[0-9]+$", var.lab_network))
    error_message = "lab_network must be an IPv4 network with room for 254 machines, a /24 or larger, such as 10.213.7.0/24."
  }

  validation {
    condition     = var.lab_network == "" || try(cidrhost(var.lab_network, 0) == split("/", var.lab_network)[0], false)
    error_message = "lab_network must be written by its first address, such as 10.213.7.0/24 and not 10.213.7.1/24."
  }
}

variable "image" {
  description = "Path or address of a qcow2 image with cloud-init; empty: the one that 'make image' made."
  type        = string
  default     = ""
}

variable "ssh_public_key" {
  description = "Path of the public key that may log in; empty: .lab/NAME/ssh/id_ed25519.pub."
  type        = string
  default     = ""
}

variable "user" {
  description = "The user who logs in to the machines and may become root."
  type        = string
  default     = "lab"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.user)) && var.user != "root"
    error_message = "user must be a plain user's name such as 'lab', not root."
  }
}

variable "accelerator" {
  description = "kvm, emulation, or auto: KVM where this computer's processor really has it."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "kvm", "emulation"], var.accelerator)
    error_message = "accelerator must be auto, kvm or emulation."
  }
}

variable "libvirt_uri" {
  description = "Which libvirt makes the machines, such as qemu:///system. Another computer's, such as qemu+ssh://user@host/system, needs a route from here to lab_network."
  type        = string
  default     = "qemu:///system"

  # fileexists() knows plain files only: of a socket it says so by an error.
  validation {
    condition     = var.libvirt_uri != "qemu:///system" || !can(fileexists("/var/run/libvirt/libvirt-sock"))
    error_message = "libvirt does not run on this computer (there is no /var/run/libvirt/libvirt-sock): start it by 'make vm-prepare' or 'systemctl start libvirtd', or name another one in libvirt_uri."
  }

  validation {
    condition     = can(regex("^qemu(\\+[a-z0-9]+)?://[^/]*/system([?].*)?$", var.libvirt_uri))
    error_message = "libvirt_uri must be the address of a QEMU driver of the system, such as qemu:///system or qemu+ssh://user@host/system."
  }
}

variable "pool_path" {
  description = "Folder, on libvirt's computer, of the machines' disks; empty: /var/lib/libvirt/hashistack-lab/NAME."
  type        = string
  default     = ""

  validation {
    condition     = var.pool_path == "" || startswith(var.pool_path, "/")
    error_message = "pool_path must be an absolute path, such as /srv/lab, or empty."
  }
}

variable "boot_seconds" {
  description = "How long a new machine may take until ssh answers; 0: do not wait and pin no host key."
  type        = number
  default     = 900

  validation {
    condition     = var.boot_seconds >= 0 && floor(var.boot_seconds) == var.boot_seconds
    error_message = "boot_seconds must be a whole number, 0 or more."
  }
}
