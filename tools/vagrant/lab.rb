# What the Vagrantfile knows of the lab. Vagrant loads that file more than once a command; this one only once.
require "digest"
require "etc"
require "fileutils"
require "ipaddr"
require "json"
require "singleton"
require "yaml"

# A sentence for whoever ran the command.
class HashistackLabError < Vagrant::Errors::VagrantError
  def initialize(text)
    @text = text
    super()
  end

  def error_message
    @text
  end
end

class HashistackLab
  include Singleton

  ROOT = File.expand_path("../..", __dir__)
  ACCELERATORS = %w[auto kvm emulation].freeze
  # MiB that QEMU takes for each machine at least; where it emulates, it keeps translated code.
  QEMU_MIB = 64
  EMULATION_MIB = 192
  attr_reader :name, :provisioned

  def initialize
    @provisioned = []
    profile = ENV.fetch("LAB_PROFILE", "full")
    fail_with("LAB_PROFILE is '#{profile}': set it to full or small.") unless %w[full small].include?(profile)
    accelerator = ENV.fetch("LAB_ACCELERATOR", "auto")
    unless ACCELERATORS.include?(accelerator)
      fail_with("LAB_ACCELERATOR is '#{accelerator}': set it to #{ACCELERATORS.join(", ")}.")
    end
    @kvm = accelerator == "kvm" || (accelerator == "auto" && processor_has_kvm?)
    @inventory = profile == "small" ? "inventories/vagrant-small" : "inventories/vagrant"
    hosts = YAML.load_file(File.join(ROOT, @inventory, "hosts.yml"))["lab"]
    @name = ENV["LAB_NAME"].to_s.empty? ? "vagrant" : ENV["LAB_NAME"]
    unless @name.match?(/\A[a-z]([a-z0-9-]{0,9}[a-z0-9])?\z/)
      fail_with("LAB_NAME is '#{@name}': 1 to 11 characters of a-z, 0-9 and '-', beginning with a letter.")
    end
    @network = ENV["LAB_NETWORK"].to_s.empty? ? network_of(@name, 64) : ENV["LAB_NETWORK"]
    @groups = hosts["children"]
    @declared = YAML.load_file(File.join(ROOT, "inventories/group_vars/lab/services.yml"))["lab_groups"]
    kind = noted.fetch("kind", "vagrant")
    unless kind == "vagrant"
      fail_with("Lab '#{@name}' of this clone is of kind #{kind}, and this command is for kind vagrant: use another " \
                "name, as in 'LAB_NAME=other vagrant up' ('unset LAB_NAME' if .lab/env has set it).")
    end
    FileUtils.mkdir_p(File.dirname(key), mode: 0o700)
    return if File.exist?(key)
    system("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hashistack-lab #{@name}", "-f", key) ||
      fail_with("ssh-keygen made no key at #{key}.")
  end

  def kvm?
    @kvm
  end

  # MiB of translated code that QEMU keeps for each emulated machine: it is faster with more.
  def translated_mib
    File.read("/proc/meminfo")[/^MemTotal:\s+(\d+)/, 1].to_i >= 15 * 1024 * 1024 ? 1024 : 128
  rescue Errno::ENOENT
    128
  end

  # Name to address, group and memory in MiB.
  def machines
    @machines ||= @groups.flat_map do |group, content|
      content["hosts"].map do |host, values|
        memory = ENV["LAB_MEMORY"] || values.to_h["vm_memory"] || content["vars"].to_h["vm_memory"] ||
          @declared.dig(group, "memory") || 768
        [host, { group: group, address: address(values["lab_index"]), memory: Integer(memory) }]
      end
    end.to_h
  end

  def address(index)
    (IPAddr.new(@network) | index).to_s
  end

  def netmask
    IPAddr.new("255.255.255.255").mask(Integer(@network.split("/").last)).to_s
  end

  # Where Vagrant itself reaches the machines; the lab's own traffic stays on the lab's network.
  def management_network
    network_of(@name, 128)
  end

  def box
    return ENV["LAB_BOX"] unless ENV["LAB_BOX"].to_s.empty?
    local_box ? "hashistack-lab/#{File.basename(File.dirname(local_box))}" : "hashistack-lab/missing"
  end

  def box_url
    "file://#{local_box}" if ENV["LAB_BOX"].to_s.empty? && local_box
  end

  def key
    File.join(directory, "ssh/id_ed25519")
  end

  def insecure_key
    File.expand_path("insecure_private_key", ENV.fetch("VAGRANT_HOME", "~/.vagrant.d"))
  end

  # Before anything is made: libvirt, the box, memory. Says all that is missing.
  def check(env)
    return if [env.default_provider, ENV["VAGRANT_DEFAULT_PROVIDER"]&.to_sym].include?(:virtualbox)
    memory = machines.values.sum { |machine| machine[:memory] + (kvm? ? QEMU_MIB : EMULATION_MIB) }
    made = Dir.glob(File.join(dotfiles, "machines/*/libvirt/id")).size
    own(env)
    run(env, python, "-m", "tools.vm", "check", "vagrant", "--name", @name, "--memory", memory.to_s,
        "--made", made.to_s, "--box", ENV["LAB_BOX"].to_s.empty? ? local_box.to_s : "public")
  end

  # Before a command that touches machines: are those that stand this clone's?
  def own(env, *more)
    run(env, "bash", "tools/venv.sh")
    done = execute(python, "-m", "tools.vm", "owner", "vagrant", "--name", @name, *more)
    fail_with(done.stderr.strip.delete_prefix("vm: ")) unless done.exit_code.zero?
  end

  # What a new machine says of whose it is (plugins/module_utils/lab_owner.py); its id is known only after `check`.
  def describe(machine)
    return unless machine.provider_name == :libvirt
    owner = { folder: ROOT, id: noted.fetch("id", ""), user: Etc.getpwuid.name }
    machine.provider_config.description = JSON.generate(owner)
  end

  # The machine's user gets the lab's key as the only one, and its host key is pinned.
  def pin(machine)
    address = machines.fetch(machine.name.to_s)[:address]
    public_key = File.read("#{key}.pub").strip
    host_key = +""
    machine.communicate.execute(
      "umask 077; mkdir -p ~/.ssh; grep -qxF '#{public_key}' ~/.ssh/authorized_keys && " \
      "[ $(wc -l < ~/.ssh/authorized_keys) = 1 ] || echo '#{public_key}' > ~/.ssh/authorized_keys; " \
      "cat /etc/ssh/ssh_host_ed25519_key.pub"
    ) { |type, data| host_key << data if type == :stdout }
    File.write(known_hosts(address), "#{address} #{host_key.split[0, 2].join(" ")}\n", perm: 0o600)
  end

  def forget(machine)
    return if machine.id # It was not destroyed.
    FileUtils.rm_f(known_hosts(machines.fetch(machine.name.to_s)[:address]))
  end

  # Once, for all machines together, and in parallel: Vagrant's own start does not bring the last machine up last.
  def provision(env)
    return if @provisioned.empty?
    env.ui.info("Running Ansible for the whole lab ...")
    run(env, python, "-m", "tools.prepare", "packages", "programs", "wheels")
    run(env, File.join(ROOT, ".venv/bin/ansible-playbook"), "-i", @inventory, "-e", "lab_network=#{@network}",
        "site.yml")
  end

  # With the last machine go the pool and what Vagrant may have left of the networks.
  def clean(env)
    return unless Dir.glob(File.join(dotfiles, "machines/*/*/id")).empty?
    run(env, python, "-m", "tools.vm", "clean", "--name", @name) if File.exist?(python)
  end

  private

  def directory
    File.join(ROOT, ".lab", @name)
  end

  # The lab's id and kind, as the first command has noted them.
  def noted
    JSON.parse(File.read(File.join(directory, "lab.json")))
  rescue Errno::ENOENT, JSON::ParserError
    {}
  end

  def dotfiles
    File.expand_path(ENV.fetch("VAGRANT_DOTFILE_PATH", ".vagrant"), ROOT)
  end

  def known_hosts(address)
    File.join(directory, "ssh/known_hosts.#{address}")
  end

  def python
    File.join(ROOT, ".venv/bin/python")
  end

  def local_box
    images = JSON.parse(File.read(File.join(ROOT, ".lab/images.json")))
    images["box"] if images["box"] && File.exist?(images["box"])
  rescue Errno::ENOENT, JSON::ParserError
    nil
  end

  # As Ansible's filter lab_network does (first: 64), in ranges of 64 networks.
  def network_of(name, first)
    digest = Digest::SHA256.digest(name).bytes
    "10.#{first + digest[0] % 64}.#{digest[1]}.0/24"
  end

  # /dev/kvm alone proves nothing: it is there on virtual machines that cannot use it.
  def processor_has_kvm?
    File.exist?("/dev/kvm") && File.read("/proc/cpuinfo").match?(/^flags\s.*\s(vmx|svm)(\s|$)/)
  rescue Errno::ENOENT
    false
  end

  def run(env, *command)
    done = execute(*command) { |_type, data| env.ui.info(data, new_line: false, prefix: false) }
    return if done.exit_code.zero?
    fail_with("'#{File.basename(command.first)} #{command.drop(1).join(" ")}' ended with status #{done.exit_code}.")
  end

  def execute(*command, &show)
    options = { workdir: ROOT, env: { "PYTHONUNBUFFERED" => "1", "LAB_NAME" => @name } }
    options[:notify] = %i[stdout stderr] if show
    Vagrant::Util::Subprocess.execute(*command, options, &show)
  end

  def fail_with(text)
    raise HashistackLabError.new(text)
  end
end

# A provisioner that does nothing but say which machines Vagrant wants provisioned.
class HashistackLabPlugin < Vagrant.plugin("2")
  name "HashiStack Lab"
  provisioner("hashistack_lab") do
    Class.new(Vagrant.plugin("2", :provisioner)) do
      def provision
        HashistackLab.instance.provisioned << @machine.name
      end
    end
  end
end

# Vagrant 2.3 compares a trigger's command, a symbol, with a list of strings, and warns that it knows no command 'up'.
module HashistackLabTriggerCommand
  def validate(machine)
    kept = @command
    @command = kept.to_s if @type == :command
    super
  ensure
    @command = kept
  end
end
require Vagrant.source_root.join("plugins/kernel_v2/config/vm_trigger").to_s
VagrantPlugins::Kernel_V2::VagrantConfigTrigger.prepend(HashistackLabTriggerCommand)
