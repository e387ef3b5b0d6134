# Find the backend's instances and their state.
service "backend" { policy = "read" }
node_prefix "" { policy = "read" }
