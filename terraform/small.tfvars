# The small profile: five machines within 4 GiB, for a laptop or for emulation.
control_count          = 1
database_count         = 1
backend_instance_count = 2
frontend_count         = 1
memory_mib = {
  control  = 768
  database = 512
  backend  = 512
  frontend = 512
}
