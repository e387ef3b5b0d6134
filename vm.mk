# Virtual machines: docs/vagrant.md and docs/terraform.md.
# PROFILE: full or small (five machines within 4 GiB).
PROFILE ?= full
VM := $(BIN)/python -m tools.vm
VAGRANT_LAB := $(or $(LAB_NAME),vagrant)
TERRAFORM_LAB := $(or $(LAB_NAME),terraform)
TERRAFORM_VARS := -var lab_name=$(TERRAFORM_LAB) $(if $(filter small,$(PROFILE)),-var-file=small.tfvars) $(TF_ARGS)

.PHONY: box
box: venv ## Make a Vagrant box of Debian 12 from Debian packages
	@$(VM) box

.PHONY: image
image: venv ## Make a disk image of Debian 12 for libvirt from Debian packages
	@$(VM) image

.PHONY: vm-prepare
vm-prepare: venv ## Install and start what virtual machines need: libvirt, Vagrant, images, the provider
	@$(VM) prepare --name=$(TERRAFORM_LAB)

.PHONY: vagrant-up
vagrant-up: prepare ## Bring the lab up on Vagrant machines (PROFILE=small for five small ones)
	@$(VM) prepare vagrant --name=$(VAGRANT_LAB)
	@LAB_PROFILE=$(PROFILE) vagrant up

.PHONY: terraform-up
terraform-up: prepare ## Bring the lab up on machines by Terraform or OpenTofu (PROFILE=small, TF_ARGS='-var ...')
	@$(VM) prepare terraform --name=$(TERRAFORM_LAB)
	@$(VM) apply --name=$(TERRAFORM_LAB) $(TERRAFORM_VARS)
	@$(PLAYBOOK) -i inventories/terraform site.yml $(ARGS)
	@$(BIN)/python -m tools.status -i inventories/terraform --patience 60

.PHONY: vm-down
vm-down: venv ## Remove this clone's virtual machines and then their keys, and the libvirt that was started for them
	@LAB_PROFILE=$(PROFILE) $(VM) down --vagrant=$(VAGRANT_LAB) --terraform=$(TERRAFORM_LAB) $(TERRAFORM_VARS)

.PHONY: test-vm
test-vm: prepare ## Try both ways on real machines, small profile: an hour and more without KVM
	@$(VM) prepare
	@$(BIN)/python -m pytest -v -s tests/vm
