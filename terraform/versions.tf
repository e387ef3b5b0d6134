# Read by Terraform and by OpenTofu.
terraform {
  required_version = ">= 1.10.0" # The first OpenTofu whose `removed` can leave a thing as it is.

  required_providers {
    libvirt = {
      source = "dmacvicar/libvirt"
      # 0.9 is another provider under the same name.
      version = "0.8.3"
    }
  }
}

provider "libvirt" {
  uri = var.libvirt_uri
}
