"""What `configure` was told, for both modules."""

name = ""
