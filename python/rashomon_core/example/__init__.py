"""The prediction tensor that the package carries, and the script that makes it."""
