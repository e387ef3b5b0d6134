# What the module plans, without a hypervisor: `terraform test` or `tofu test`.
mock_provider "libvirt" {
  mock_data "libvirt_node_info" {
    defaults = {
      memory_total_kb = 16777216
      cpu_cores_total = 4
    }
  }
}

variables {
  lab_name       = "test"
  libvirt_uri    = "qemu+ssh://mocked/system"
  image          = "versions.tf" # any file: the mock uploads nothing
  ssh_public_key = "tests/key.pub"
  accelerator    = "emulation"
}

run "the_default_lab" {
  command = plan

  assert {
    condition     = length(libvirt_domain.machine) == 8
    error_message = "Three control machines, two of the database, two backends and one frontend are eight."
  }
  assert {
    condition     = output.lab.machines["backend-2"].index == 102 && output.lab.machines["database-1"].index == 20 && output.lab.machines["database-2"].index == 251
    error_message = "The places in the network are those of the containers inventory."
  }
  assert {
    condition     = output.lab.network == "10.95.134.0/24"
    error_message = "The network follows from the name as in Ansible's filter lab_network."
  }
  assert {
    condition     = libvirt_domain.machine["control-1"].type == "qemu"
    error_message = "Emulation was asked for."
  }
  assert {
    condition     = length(distinct([for machine in libvirt_domain.machine : machine.network_interface[0].mac])) == 8
    error_message = "Each machine has a network address of its own."
  }
}

run "nothing_secret_in_cloud_init" {
  command = plan

  assert {
    condition     = alltrue([for seed in terraform_data.seed : !can(regex("(?i)PRIVATE KEY|passwd: |password|token", seed.input.user_data))])
    error_message = "cloud-init's data can be read by whoever reads the disk."
  }
  assert {
    condition     = strcontains(terraform_data.seed["backend-1"].input.user_data, "ssh-ed25519 ")
    error_message = "The public key is what lets Ansible in."
  }
}

run "one_more_backend" {
  command = plan

  variables {
    backend_instance_count = 3
  }

  assert {
    condition     = length(libvirt_domain.machine) == 9 && contains(keys(libvirt_domain.machine), "backend-3")
    error_message = "A third backend is one machine more."
  }
}

run "a_network_of_ones_own" {
  command = plan

  variables {
    lab_network = "10.213.7.0/24"
  }

  assert {
    condition     = strcontains(terraform_data.seed["backend-1"].input.network_config, "10.213.7.101/24")
    error_message = "The machine's address is in the network that was named."
  }
}

run "a_lab_that_stands" {
  command = apply

  variables {
    boot_seconds = 0
  }
}

run "keeps_its_image_and_seeds" {
  command = plan

  variables {
    boot_seconds = 0
    image        = "outputs.tf"
    disk_gib     = 20
    user         = "other"
  }

  # What a plan makes anew has an id that is not known yet, which fails the test.
  assert {
    condition     = alltrue([for disk in libvirt_volume.disk : disk.id != "" && disk.size == 10 * 1024 * 1024 * 1024])
    error_message = "Another image or size is for new disks."
  }
  assert {
    condition     = alltrue([for machine in libvirt_domain.machine : machine.id != ""])
    error_message = "No machine that stands is made anew."
  }
  assert {
    condition     = alltrue([for seed in terraform_data.seed : !strcontains(seed.input.user_data, "other")])
    error_message = "A seed is read at the first start only."
  }
  assert {
    condition     = keys(libvirt_volume.image) == ["versions.tf"]
    error_message = "An image that no machine stands on is not there."
  }
}

run "gives_a_new_machine_the_new_image" {
  command = plan

  variables {
    boot_seconds           = 0
    image                  = "outputs.tf"
    backend_instance_count = 3
  }

  assert {
    condition     = terraform_data.image["backend-3"].input == "outputs.tf" && terraform_data.image["backend-2"].input == "versions.tf"
    error_message = "Each machine has the image that was current when it was made."
  }
  assert {
    condition     = libvirt_volume.disk["backend-2"].id != ""
    error_message = "A new machine changes no other."
  }
}

run "small_profile" {
  command = plan

  variables {
    control_count  = 1
    database_count = 1
    memory_mib     = { control = 768, database = 512, backend = 512, frontend = 512 }
  }

  assert {
    condition     = sum([for machine in libvirt_domain.machine : machine.memory + 192]) <= 4096
    error_message = "The small profile fits in 4 GiB, with what QEMU takes to emulate it."
  }
}

run "refuses_an_even_control_count" {
  command = plan
  variables {
    control_count = 2
  }
  expect_failures = [var.control_count]
}

run "refuses_four_machines_of_the_database" {
  command = plan
  variables {
    database_count = 4
  }
  expect_failures = [var.database_count]
}

run "refuses_51_backends" {
  command = plan
  variables {
    backend_instance_count = 51
  }
  expect_failures = [var.backend_instance_count]
}

run "refuses_no_backend" {
  command = plan
  variables {
    backend_instance_count = 0
  }
  expect_failures = [var.backend_instance_count]
}

run "refuses_a_small_network" {
  command = plan
  variables {
    lab_network = "10.213.7.0/25"
  }
  expect_failures = [var.lab_network]
}

run "refuses_a_long_name" {
  command = plan
  variables {
    lab_name = "much-too-long-a-name"
  }
  expect_failures = [var.lab_name]
}

run "refuses_what_is_not_in_form" {
  command = plan
  variables {
    memory_mib   = { control = 1000.5 }
    disk_gib     = 4.3
    libvirt_uri  = "qemu://system"
    pool_path    = "srv/lab"
    boot_seconds = -1
  }
  expect_failures = [var.memory_mib, var.disk_gib, var.libvirt_uri, var.pool_path, var.boot_seconds]
}

run "refuses_a_missing_image" {
  command = plan
  variables {
    image = "/nowhere/disk.qcow2"
  }
  expect_failures = [libvirt_network.lab]
}

run "refuses_a_missing_key" {
  command = plan
  variables {
    ssh_public_key = "/nowhere/key.pub"
  }
  expect_failures = [libvirt_network.lab]
}

run "refuses_too_little_memory" {
  command = plan
  variables {
    memory_mib = { backend = 16384 }
  }
  expect_failures = [data.libvirt_node_info.host]
}
