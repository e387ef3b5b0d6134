"""Options that the modules of Vault share: CONNECTION_ARGUMENTS and TOKEN_ARGUMENTS of module_utils/vault_client.py."""


class ModuleDocFragment:
    """How a module reaches Vault; ``.token`` adds how it is let in."""

    DOCUMENTATION = r"""
options:
  url:
    description: Addresses of the cluster's nodes; the first that can serve requests is used.
    type: list
    elements: str
    required: true
  ca_cert:
    description: CA of the nodes' certificates.
    type: path
    required: true
  server_name:
    description: Name that the nodes' certificates bear, such as V(vault.service.consul).
    type: str
    required: true
  timeout:
    description: Seconds to wait for a cluster that does not answer, or has no leader at the moment.
    type: int
    default: 60
"""

    TOKEN = r"""
options:
  token_file:
    description: File with the token.
    type: path
    required: true
"""
