"""What is made once on the controller and shared by all its labs; the command is tools/prepare.py."""
