"""Speed and memory measurements; not part of the installed packages."""
